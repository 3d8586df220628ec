"""A program whose driver or whose nodes are taken away: ``python -m tests.ray.faulty_program FOLDER WHAT``.

WHAT is ``start`` or ``resume`` (of a program that is killed), ``remove`` (a node dies), or ``drain`` (a node goes away
after a notice). The result is ``FOLDER/trained.pickle``.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]  # by protobuf

from tests.ray.faults import DEADLINE_S, Diary, Holds, Trained, faulty_trainer, meanwhile
from tests.waiting import until


def main(folder: Path, what: str) -> None:
    """Train, and leave what came of it."""
    diary, holds = Diary(folder), Holds(folder, 3 if what == "drain" else 7, notice=what == "drain")
    trainer = faulty_trainer(folder / "out", [diary, holds], failures=1 if what == "remove" else 0)
    if what in ("remove", "drain"):
        _on_a_cluster(trainer, diary, holds, folder / "out", what)
    else:
        trainer.train(resume_from_checkpoint=what == "resume")
    (folder / "trained.pickle").write_bytes(pickle.dumps(Trained.of(trainer)))


def _on_a_cluster(trainer: Any, diary: Diary, holds: Holds, output_dir: Path, what: str) -> None:
    settings = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": settings})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)

    def take_away() -> None:
        holds.wait()
        until((output_dir / f"checkpoint-{holds.step // 3 * 3}" / "manifest.json").exists)
        (node,) = [node for node in nodes if node.node_id == diary.node()]
        if what == "remove":
            cluster.remove_node(node, allow_graceful=False)
            until(lambda: not any(map(psutil.pid_exists, [diary.pid(0), diary.pid(1)])), "the node's workers to go")
        else:
            _drain(cluster.address, node.node_id)
        holds.release()

    try:
        with meanwhile(take_away):
            trainer.train()
    finally:
        ray.shutdown()
        cluster.shutdown()


def _drain(address: str, node: str) -> None:
    """Give notice, as a cloud does before it takes a machine back."""
    client: Any = GcsClient(address=address)
    accepted, why = client.drain_node(
        node,
        DRAIN_NODE_REASON_PREEMPTION,
        "a test",
        int((time.time() + DEADLINE_S) * 1000),
    )
    assert accepted, why


if __name__ == "__main__":
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.1")
    main(Path(sys.argv[1]), sys.argv[2])
