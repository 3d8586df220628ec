"""What a log costs the training thread: raytrainer beside transformers' MLflowCallback, on one real MLflow server.

All train the same small model and log at every step. Trainer.log is timed on the training thread; what it takes where
nothing is reported is subtracted. Once more raytrainer trains with a server that answers nothing from step 10 on, until
training is over: transformers' own train_runtime is compared. The server's history is read afterwards: every step has
to be there. A step computes for some milliseconds, so that a hundredth of it can be seen.
Run: python benchmarks/tracking.py --help
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from figures import Goal, conclude, machine, parser
from sweep_task import environment
from transformers import Trainer, TrainingArguments

PARTIES = ("nothing", "transformers", "raytrainer", "silent")
SILENT_FROM = 10
EXPERIMENT = "cost-of-a-log"


class Line(torch.nn.Module):
    """As little of a model as there can be."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
        self.register_buffer("work", torch.rand(400, 400), persistent=False)

    def forward(self, x: Any = None, labels: Any = None) -> dict[str, Any]:
        y = self.line(x)
        with torch.no_grad():
            torch.linalg.svdvals(self.work)
        return {"loss": ((y - labels) ** 2).mean(), "logits": y}


class Timed(Trainer):
    """Notes what each log took."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        super().log(logs, *args, **kwargs)
        vars(self).setdefault("_took", []).append(time.perf_counter() - began)
        if self.state.global_step == SILENT_FROM:
            self._folder.joinpath("begun").touch()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        result = super().train(*args, **kwargs)
        said = {"took": vars(self)["_took"], "seconds": result.metrics["train_runtime"]}
        part = self._folder / "said.part"
        part.write_text(json.dumps(said))
        part.rename(self._folder / "said.json")
        return result

    @property
    def _folder(self) -> Path:
        return Path(os.path.dirname(str(self.args.output_dir)))


def train(party: str, folder: Path, steps: int) -> None:
    """Train as one party, in a process of its own; write what each log took."""
    data = [{"x": torch.tensor([i / 8.0]), "labels": torch.tensor([i / 4.0])} for i in range(8)]
    given: dict[str, Any] = {"max_steps": steps, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
    given |= {"use_cpu": True, "run_name": party, "report_to": "none" if party == "nothing" else "mlflow"}
    if party in ("raytrainer", "silent"):
        from ray.train import ScalingConfig

        from raytrainer import RayTrainingArguments, distribute

        args = RayTrainingArguments(str(folder / "out"), **given)
        kind: Any = distribute(Timed)
        kind(Line(), args, train_dataset=data, scaling_config=ScalingConfig(num_workers=1)).train()
    else:
        Timed(Line(), TrainingArguments(str(folder / "out"), **given), train_dataset=data).train()


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """Start MLflow's server with a database in the folder; give its address and its process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
    try:
        while not answers(uri):
            if process.poll() is not None:
                sys.exit((folder / "server.log").read_text())
            time.sleep(0.2)
        yield uri, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answers(uri: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"{uri}/health", timeout=5).status == 200)
    return False


def measure(party: str, uri: str, group: int, folder: Path, steps: int) -> dict[str, float]:
    """Run one party; return milliseconds of a log, and seconds of the training."""
    from mlflow import MlflowClient

    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--party", party, "--folder", str(folder), "--steps", str(steps)]
    known = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    with (folder / "log").open("w") as log:
        program = subprocess.Popen(
            command, env={**environment(), **known, "PYTHONPATH": path}, stdout=log, stderr=subprocess.STDOUT
        )
    for file, number in (("begun", signal.SIGSTOP), ("said.json", signal.SIGCONT)) if party == "silent" else ():
        while not (folder / file).exists() and program.poll() is None:
            time.sleep(0.01)
        os.killpg(group, number)
    if program.wait():
        sys.exit(f"{party} ended with {program.returncode}:\n{(folder / 'log').read_text()[-4000:]}")
    if party != "nothing":
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{party}'", max_results=1)
        there = sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss"))
        assert there == list(range(1, steps + 1)), f"{party}: {len(there)} of {steps} steps are on the server"
    # The first ones set things up; the last one is the summary.
    said = json.loads((folder / "said.json").read_text())
    took = sorted(1000 * seconds for seconds in said["took"][SILENT_FROM:-1])
    logs = {"median_ms": statistics.median(took), "p99_ms": took[int(len(took) * 0.99)], "worst_ms": took[-1]}
    return {**logs, "training_s": said["seconds"]}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=2, help="how often each of them trains")
    options.add_argument("--steps", type=int, default=500, help="optimizer steps, each of which is logged")
    options.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args()
    if given.party:
        train(given.party, given.folder, given.steps)
        return
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="tracking-"))
    rounds: dict[str, list[dict[str, float]]] = {party: [] for party in PARTIES}
    for number in range(given.rounds):
        (folder / str(number)).mkdir(parents=True)
        with server(folder / str(number)) as (uri, group):
            for party in PARTIES:
                rounds[party].append(measure(party, uri, group, folder / str(number) / party, given.steps))
                print(f"round {number}  {party:13}", {k: round(v, 3) for k, v in rounds[party][-1].items()}, flush=True)
    cost = {
        party: statistics.median(
            run["median_ms"] - none["median_ms"] for run, none in zip(rounds[party], rounds["nothing"], strict=True)
        )
        for party in PARTIES[1:]
    }
    ratio = statistics.median(
        silent["training_s"] / own["training_s"]
        for silent, own in zip(rounds["silent"], rounds["raytrainer"], strict=True)
    )
    goals = [
        Goal("ms, a log on the training thread", cost["raytrainer"], 1.0),
        Goal("of what it costs with transformers' callback", cost["raytrainer"] / cost["transformers"], 1.0),
        Goal("training with a server that answers nothing, of its time", ratio, 1.05),
    ]
    results = {"rounds": rounds, "cost_ms": cost, "silent_over_undisturbed": ratio}
    conclude("tracking", results, goals, begun, given.json)


if __name__ == "__main__":
    main()
