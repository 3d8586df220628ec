"""What it takes to bring a dataset to the workers of one node: seconds to the first batch, bytes, copies in memory.

The dataset is an Arrow file of --megabytes on the driver's disk. Each party trains three steps on it with 2 and with 4
CPU workers, as a program of its own, turn by turn:

raytrainer   RayTrainer(train_dataset=Dataset.from_file(...))
pickled      a bare TorchTrainer whose loop gets the dataset, read into memory, in its train_loop_config
torchrun     each process opens the same Arrow file

Told of each: seconds from the program's start to the first batch on rank 0; the same less what it takes with a dataset
of a few kilobytes, which is the dataset's own share; bytes in the node's object store at most, and created in it; and
the memory that the workers have because of the dataset after reading all of it: PSS, in which a page that n processes
map counts 1/n in each, and USS, pages of one process alone; both less what they are with the small dataset. One copy a
node is a PSS of all workers together of one dataset, and no USS. Run: python benchmarks/shipping.py --help
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from figures import Goal, conclude, machine, parser, spread
from parties import leave_group, run_party, say

WIDTH, STEPS, SMALL_MB = 1024, 3, 0.1
ROWS = "rows.arrow"
FIGURES = ("first_batch_s", "store_bytes", "created_bytes", "pss_bytes", "uss_bytes")
MB = 1e6


def write_rows(file: Path, megabytes: float) -> None:
    """Write an Arrow stream as datasets keeps it: rows of 1024 float32 and a label."""
    import numpy as np
    import pyarrow as pa

    count = max(64, int(megabytes * MB / (4 * WIDTH)))
    block = np.random.default_rng(0).normal(size=(1024, WIDTH)).astype(np.float32)
    schema = pa.schema({"x": pa.list_(pa.float32()), "labels": pa.float32()})
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for begin in range(0, count, len(block)):
            part = block[: min(len(block), count - begin)]
            offsets = np.arange(0, part.size + 1, WIDTH, dtype=np.int32)
            rows = pa.ListArray.from_arrays(pa.array(offsets), pa.array(part.reshape(-1)))
            writer.write_batch(pa.record_batch([rows, pa.array(part.mean(-1))], schema))


def read_rows(given: argparse.Namespace, in_memory: bool = False) -> Any:
    from datasets import Dataset

    return Dataset.from_file(str(given.file), in_memory=in_memory).with_format("torch")


def arguments(given: argparse.Namespace) -> dict[str, Any]:
    common = {"per_device_train_batch_size": 8, "max_steps": STEPS, "save_strategy": "no", "report_to": "none"}
    return {"output_dir": str(given.folder / "out"), **common}


def parts(given: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Return what all trainers are given: a small model, the dataset, and the callback that measures."""
    import torch
    from transformers import TrainerCallback

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(WIDTH, 1)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            y = self.line(x)[:, 0]
            return {"loss": ((y - labels) ** 2).mean(), "logits": y}

    class Meter(TrainerCallback):
        """Every rank: when the first batch is there; at the end the memory, when all rows have been read."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 0:
                self.first = time.time()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            import psutil
            import pyarrow.compute
            from accelerate.utils import gather_object

            for column in kwargs["train_dataloader"].dataset.data.table.column("x").chunks:
                pyarrow.compute.sum(column.values)
            gather_object([0])  # all have read now
            memory = psutil.Process().memory_full_info()
            found = gather_object([{"pss": memory.pss, "uss": memory.uss}])
            if args.process_index == 0:
                sums = {f"{name}_bytes": sum(one[name] for one in found) for name in ("pss", "uss")}
                said = {"first_batch": self.first, "workers": len(found), **sums}
                (given.folder / "worker.json").write_text(json.dumps(said))
            gather_object([0])  # nobody leaves while others measure

    return {"model": Line(), "train_dataset": data, "callbacks": [Meter()]}


class Store:
    """Watches the object store of this program's node while a block runs."""

    def __init__(self) -> None:
        self.most = self.created = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Store:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        import ray
        from ray._private.internal_api import node_stats

        node = ray.nodes()[0]
        while not self._done.wait(0.2):
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
            self.most = max(self.most, stats.store_stats.object_store_bytes_used)
            self.created = stats.store_stats.cumulative_created_bytes


def on_ray(given: argparse.Namespace, train: Any) -> None:
    import ray

    # What a bare TorchTrainer puts there is several times the dataset: spilling would be another figure.
    room = int((given.workers + 4) * given.file.stat().st_size + 500 * MB)
    ray.init(address="local", num_cpus=given.workers, include_dashboard=False, object_store_memory=room)
    with Store() as store:
        train()
    tell(given, store_bytes=store.most, created_bytes=store.created)


def tell(given: argparse.Namespace, **more: int) -> None:
    said = json.loads((given.folder / "worker.json").read_text())
    assert said["workers"] == given.workers, f"{said['workers']} workers trained together"
    say(given.folder, {**said, **more})


def with_raytrainer(given: argparse.Namespace) -> None:
    from ray.train import ScalingConfig

    from raytrainer import RayTrainer, RayTrainingArguments

    args = RayTrainingArguments(**arguments(given))
    scaling = ScalingConfig(num_workers=given.workers)
    on_ray(given, lambda: RayTrainer(args=args, scaling_config=scaling, **parts(given, read_rows(given))).train())


def with_pickle(given: argparse.Namespace) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def train() -> None:
        TorchTrainer(
            bare_loop,
            train_loop_config={"given": given, "data": read_rows(given, in_memory=True)},
            scaling_config=ScalingConfig(num_workers=given.workers),
            run_config=RunConfig(name="run", storage_path=str(given.folder / "storage")),
        ).fit()

    on_ray(given, train)


def bare_loop(config: dict[str, Any]) -> None:
    import os

    os.environ["ACCELERATE_USE_CPU"] = "true"
    from transformers import Trainer, TrainingArguments

    given = config["given"]
    Trainer(args=TrainingArguments(**arguments(given), use_cpu=True), **parts(given, config["data"])).train()


def with_torchrun(given: argparse.Namespace) -> None:
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(**arguments(given), use_cpu=True)
    Trainer(args=args, **parts(given, read_rows(given))).train()
    if args.process_index == 0:
        tell(given, store_bytes=0, created_bytes=0)
    leave_group()


PARTIES = {"raytrainer": with_raytrainer, "pickled": with_pickle, "torchrun": with_torchrun}


def measure(party: str, workers: int, rows: Path, folder: Path) -> dict[str, float]:
    options = ("--workers", str(workers), "--file", str(rows))
    said = run_party(__file__, party, folder, *options, torchrun=workers if party == "torchrun" else 0)
    return {"first_batch_s": said["first_batch"] - said["began"], **{name: said[name] for name in FIGURES[1:]}}


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--megabytes", type=float, default=1000.0, help="size of the dataset")
    options.add_argument("--of-workers", type=int, nargs="+", default=[2, 4], help="numbers of workers")
    options.add_argument("--rounds", type=int, default=1, help="how often each of them trains")
    options.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    options.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args(words)
    if given.party:
        PARTIES[given.party](given)
        return
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="shipping-"))
    files = {"large": folder / "large" / ROWS, "small": folder / "small" / ROWS}
    write_rows(files["large"], given.megabytes)
    write_rows(files["small"], SMALL_MB)
    size = files["large"].stat().st_size
    results: dict[str, Any] = {"dataset_bytes": size}
    for workers in given.of_workers:
        found: dict[str, dict[str, list[float]]] = {party: {} for party in PARTIES}
        for number in range(given.rounds):
            for party in PARTIES:
                at = folder / f"{workers}-{number}" / party
                large, small = (measure(party, workers, file, at / name) for name, file in files.items())
                own = {f"{name} of the dataset": large[name] - small[name] for name in FIGURES}
                for name, value in {"first_batch_s": large["first_batch_s"], **own}.items():
                    found[party].setdefault(name, []).append(value)
                print(f"{workers} workers  round {number}  {party:10}  {told(own, size)}", flush=True)
        results[f"{workers} workers"] = {
            party: {name: spread(values) for name, values in each.items()} for party, each in found.items()
        }
    goals = []
    for workers in given.of_workers:
        ours = results[f"{workers} workers"]["raytrainer"]
        for name in ("created_bytes", "store_bytes", "pss_bytes"):
            share = ours[f"{name} of the dataset"]["median"] / size
            goals.append(Goal(f"datasets in {name}, {workers} workers", round(share, 3), 1.1))
    conclude("shipping", results, goals, begun, given.json)


def told(own: dict[str, float], size: int) -> str:
    seconds = own["first_batch_s of the dataset"]
    rest = "  ".join(f"{name[:-6]} {own[f'{name} of the dataset'] / size:5.2f}" for name in FIGURES[1:])
    return f"first batch {seconds:+6.1f} s by the dataset; datasets in: {rest}"


if __name__ == "__main__":
    main()
