"""A program of its own: trains on a cluster that gets a second node and loses it again, and notes what happens.

Run as: python -m tests.ray.growing_cluster FOLDER MAX_FAILURES kill|graceful
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.train import FailureConfig, RunConfig
from ray.train.v2.api.config import ScalingConfig
from transformers import TrainerCallback

from raytrainer import RayTrainingArguments, distribute
from raytrainer.recovery import RecoveryCallback
from raytrainer.wire import Wish
from tests.ray.recipes import tiny_bert
from tests.ray.test_elastic import ARGUMENTS, EXAMPLES, Notes, numbered

# In which step each group of workers waits until the cluster has changed; the third goes on to the end.
HOLDS = {1: 5, 2: 9}
SECONDS = 60


class NotesGroups(TrainerCallback):
    """Worker: notes each group of workers that begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0:
            batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            shares = {"workers": args.world_size, "accumulation": args.gradient_accumulation_steps}
            note(self.folder, step=state.global_step, batch=batch, **shares)


class Held(Notes):
    """Holds the first group until it is asked to leave, and the second until it dies."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        group = len(groups(self.notes.parent))
        if self.state.global_step == HOLDS.get(group):
            (self.notes.parent / f"held-{group}").touch()
            deadline = time.monotonic() + SECONDS
            while not self.asked_to_leave():
                assert time.monotonic() < deadline, "the cluster changed, and the group did not"
                time.sleep(0.1)
        return super().training_step(model, inputs, num_items_in_batch)

    def asked_to_leave(self) -> bool:
        (recovery,) = (c for c in self.callback_handler.callbacks if isinstance(c, RecoveryCallback))
        return recovery._questions._wire.wish() is Wish.LEAVE


def note(folder: Path, **facts: Any) -> None:
    with (folder / "events.jsonl").open("a") as file:
        print(json.dumps({"time": round(time.time(), 1), **facts}), file=file)


def groups(folder: Path) -> list[dict[str, Any]]:
    """Return what was noted of each group of workers, in order."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if "workers" in event]


def change(cluster: Any, folder: Path, graceful: bool) -> None:
    """Add a node when the first group holds, and take it away when the second does."""
    node = None
    for group in (1, 2):
        deadline = time.monotonic() + SECONDS
        while not (folder / f"held-{group}").exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        note(folder, node="comes" if node is None else "goes")
        if node is None:
            node = cluster.add_node(num_cpus=1)
        else:
            cluster.remove_node(node, allow_graceful=graceful)
            note(folder, node="gone")


def main(folder: Path, max_failures: int, graceful: bool) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address)
        (folder / "notes").mkdir()
        trainer = distribute(Held)(
            tiny_bert(vocabulary=EXAMPLES, dropout=0.0),
            RayTrainingArguments(folder / "out", **{**ARGUMENTS, "save_steps": 2}),
            train_dataset=numbered(EXAMPLES),
            notes=folder / "notes",
            callbacks=[NotesGroups(folder)],
            scaling_config=ScalingConfig(num_workers=(1, 2), elastic_resize_monitor_interval_s=1),
            run_config=RunConfig(failure_config=FailureConfig(max_failures=max_failures)),
            global_train_batch_size=16,
        )
        # Nodes can be added in the main thread only.
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(trainer.train)
            change(cluster, folder, graceful)
            training.result()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        note(folder, steps=trainer.state.global_step, losses=losses)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "graceful")
