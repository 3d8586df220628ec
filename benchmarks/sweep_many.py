"""Hundreds of trials of a trivial trainer: does the driver grow, and does the sweep become slower?

The driver's memory (its own pages, USS) and the trials that have ended are noted while the sweep runs. Growth is the
slope of a straight line through the second half of it: what the first half imports and caches is no growth. A
slowdown is the time of the last fifth of the trials over that of the second fifth.
Run: python benchmarks/sweep_many.py --help
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml
from figures import Goal, conclude, machine, parser
from sweep_task import environment

MODULE = """
import torch
from transformers import Trainer


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def forward(self, x=None, labels=None):
        y = self.line(x)
        return {"loss": ((y - labels) ** 2).mean(), "logits": y}


def build(arguments):
    torch.manual_seed(0)
    data = [{"x": torch.tensor([i / 8.0]), "labels": torch.tensor([i / 4.0])} for i in range(8)]
    return Trainer(Line(), arguments, train_dataset=data, eval_dataset=data)
"""


def write(folder: Path, trials: int) -> Path:
    """Write the trainer's module and the sweep."""
    (folder / "line.py").write_text(MODULE)
    steps = {"max_steps": 2, "per_device_train_batch_size": 8, "eval_strategy": "steps", "eval_steps": 2}
    sweep = {
        "name": "many",
        "trainer": "line:build",
        "training": {**steps, "save_strategy": "no"},
        "mlflow": None,
        "run": {"storage_path": str(folder / "runs")},
        "scaling": {"num_workers": 1},
        "search_space": {"training.learning_rate": {"loguniform": [1.0e-4, 1.0]}},
        "tune": {"metric": "eval_loss", "mode": "min", "num_samples": trials, "max_concurrent_trials": 2},
    }
    file = folder / "many.yaml"
    file.write_text(yaml.safe_dump(sweep))
    return file


def watch(process: subprocess.Popen[bytes], folder: Path) -> list[tuple[float, int, float]]:
    """Return (seconds, trials that ended, MB) of the driver until it ends."""
    driver, began, seen = psutil.Process(process.pid), time.monotonic(), []
    while process.poll() is None:
        ended = sum(1 for _ in folder.glob("runs/many/trials/*/end.json"))
        try:
            seen.append((time.monotonic() - began, ended, driver.memory_full_info().uss / 1e6))
        except psutil.Error:
            break
        time.sleep(1.0)
    return seen


def figures(seen: list[tuple[float, int, float]], trials: int) -> dict[str, Any]:
    def reached(share: float) -> float:
        return next(seconds for seconds, ended, _ in seen if ended >= share * trials)

    # The report at the end reads everything at once: it is not the sweep's growth.
    half = [(ended, size) for _, ended, size in seen if trials / 2 <= ended < trials]
    slope, _ = statistics.linear_regression(*zip(*half, strict=True))
    at = {share: next(size for _, ended, size in seen if ended >= share * trials) for share in (0.2, 0.4, 0.6, 0.8, 1)}
    return {
        "trials": trials,
        "seconds": round(seen[-1][0], 1),
        "mb_at": {f"{share:.0%}": round(size, 1) for share, size in at.items()},
        "kb_a_trial": round(slope * 1000, 2),
        "last_fifth_over_second": round((reached(1.0) - reached(0.8)) / (reached(0.4) - reached(0.2)), 3),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--trials", type=int, default=300)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args()
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="sweep-many-"))
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "raytrainer", "tune", str(write(folder, given.trials))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT)
        seen = watch(process, folder)
    if process.wait():
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{(folder / 'log').read_text()[-4000:]}")
    result = figures(seen, given.trials)
    goals = [
        Goal("time of the last fifth of trials, of the second's", result["last_fifth_over_second"], 1.2),
        Goal("kB of the driver a trial", result["kb_a_trial"], 50),
    ]
    conclude("sweep_many", result, goals, begun, given.json)


if __name__ == "__main__":
    main()
