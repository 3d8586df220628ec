"""How long training stands still for a checkpoint: raytrainer against Ray Train's own callback for transformers.

Both train the same model with 300 MB of state (weights and AdamW's moments, fp32) on the same CPU workers, turn by turn
in one run. A save is timed from the end of the step that it follows to the begin of the next step, less what that takes
between two steps without a save, by the same callback on rank 0. Run: python benchmarks/checkpoint_stall.py --help
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

# For both: Ray Train looks at its workers every 2 s by default, and a report waits until then.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import ray
import ray.train
import torch
from datasets import Dataset
from figures import Goal, conclude, machine, parser
from ray.train import RunConfig, ScalingConfig
from transformers import Trainer, TrainerCallback, TrainingArguments

from raytrainer import RayTrainer, RayTrainingArguments

WIDTH, LAYERS = 2048, 6
STEPS, SAVE_EVERY = 60, 10


class Wide(torch.nn.Module):
    """25 million parameters, so 100 MB of weights and 200 MB of AdamW's moments, and little to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = x
        for layer in self.layers:
            out = torch.tanh(layer(out))
        return {"loss": ((out.mean(-1) - labels) ** 2).mean(), "logits": out[:, :1]}


def rows() -> Dataset:
    x = np.random.default_rng(0).normal(size=(64, WIDTH)).astype(np.float32)
    return Dataset.from_dict({"x": list(x), "labels": x.mean(-1)}).with_format("torch")


class Clock(TrainerCallback):
    """Rank 0, first of the callbacks: seconds between a step's end and the next one's begin, and of each step."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.begins: dict[int, float] = {}
        self.ends: dict[int, float] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begins[state.global_step] = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends[state.global_step] = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0:
            gaps = {step: self.begins[step] - self.ends[step] for step in self.ends if step in self.begins}
            steps = {step: self.ends[step + 1] - self.begins[step] for step in self.begins if step + 1 in self.ends}
            self.file.write_text(json.dumps({"gaps": gaps, "steps": steps}))


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    common = {"per_device_train_batch_size": 4, "max_steps": STEPS, "logging_steps": STEPS, "report_to": "none"}
    saving = {"save_strategy": "steps", "save_steps": SAVE_EVERY, "save_total_limit": 2, "disable_tqdm": True}
    return {"output_dir": str(folder / "out"), **common, **saving, **changes}


def with_raytrainer(folder: Path, workers: int) -> None:
    trainer = RayTrainer(
        Wide(),
        RayTrainingArguments(**arguments(folder)),
        train_dataset=rows(),
        callbacks=[Clock(folder / "clock.json")],
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(name="run", storage_path=str(folder / "storage")),
    )
    trainer.train()


def with_ray_train(folder: Path, workers: int) -> None:
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        ray_train_loop,
        train_loop_config={"folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(name="run", storage_path=str(folder / "storage")),
    ).fit()


def ray_train_loop(config: dict[str, Any]) -> None:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer

    # A folder for each rank: in one for all, the callback copies files that rank 0 is still writing, and fails.
    folder = Path(config["folder"]) / str(ray.train.get_context().get_world_rank())
    trainer = Trainer(
        Wide(),
        TrainingArguments(**arguments(folder, use_cpu=True)),
        train_dataset=rows(),
        callbacks=[Clock(folder.parent / "clock.json"), RayTrainReportCallback()],
    )
    prepare_trainer(trainer).train()


class Disk:
    """Watches a folder while a block runs: the most bytes that it held beyond what the storage keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most, self.extra = folder, 0, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()
        self.extra = self.most - self._size(self.folder / "storage")

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.most = max(self.most, self._size(self.folder))

    def _size(self, folder: Path) -> int:
        size = 0
        for path in folder.rglob("*"):
            try:
                size += path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:
                continue
        return size


def measure(arm: Any, workers: int, base: str | None) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-stall-", dir=base))
    try:
        with Disk(folder) as disk:
            arm(folder, workers)
        noted = json.loads((folder / "clock.json").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    gaps = {int(step): seconds for step, seconds in noted["gaps"].items()}
    steps = {int(step): seconds for step, seconds in noted["steps"].items()}
    between = statistics.median(seconds for step, seconds in gaps.items() if step % SAVE_EVERY)
    stalls = [seconds - between for step, seconds in gaps.items() if step % SAVE_EVERY == 0]
    # The steps before the first save are undisturbed; those behind it may share disk and cores with the background.
    quiet = statistics.median(steps[step] for step in range(2, SAVE_EVERY))
    behind = [sum(steps[step + i] - quiet for i in range(SAVE_EVERY)) for step in gaps if step % SAVE_EVERY == 0]
    return {"stalls": stalls, "slowed": behind, "extra_disk": disk.extra}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options.add_argument("--rounds", type=int, default=2, help="how often each of the two trains")
    options.add_argument("--folder", help="where to write checkpoints; default is the temporary folder")
    given = options.parse_args()
    begun = machine()
    ray.init(address="local", num_cpus=max(*given.workers, 2), include_dashboard=False, log_to_driver=False)
    results: dict[str, Any] = {}
    for workers in given.workers:
        runs: dict[str, list[dict[str, Any]]] = {"raytrainer": [], "ray train": []}
        for _ in range(given.rounds):
            runs["ray train"].append(measure(with_ray_train, workers, given.folder))
            runs["raytrainer"].append(measure(with_raytrainer, workers, given.folder))
        summary = {name: summarise(measured) for name, measured in runs.items()}
        ratio = summary["raytrainer"]["stall_s"] / summary["ray train"]["stall_s"]
        results[f"{workers} workers"] = {**summary, "ratio": round(ratio, 3)}
        for name, figures in summary.items():
            print(f"{workers} workers  {name:10}  {figures}", flush=True)
    what = "stands still for a save, of Ray Train's callback"
    goals = [Goal(f"{what}, {name}", each["ratio"], 0.15) for name, each in results.items()]
    conclude("checkpoint_stall", results, goals, begun, given.json)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    stalls = [stall for run in runs for stall in run["stalls"]]
    return {
        "stall_s": round(statistics.median(stalls), 3),
        "from": round(min(stalls), 3),
        "to": round(max(stalls), 3),
        "saves": len(stalls),
        "later_steps_slower_by_s": round(statistics.median(slow for run in runs for slow in run["slowed"]), 3),
        "extra_disk_mb": round(max(run["extra_disk"] for run in runs) / 1e6),
    }


if __name__ == "__main__":
    main()
