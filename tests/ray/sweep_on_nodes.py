"""A program: a sweep on two nodes, one of which goes away when both have a trial. Arguments: the sweep, its notes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from raytrainer.config.sweep import load_sweep
from raytrainer.launch.tune import tune
from tests.waiting import until


def begun(notes: Path) -> int:
    """Count the trials that stand still after their tenth step."""
    return len({file.name[:5] for file in notes.glob("*.jsonl") if '"step": 10' in file.read_text()})


def main(sweep: str, notes: Path) -> None:
    """Run the sweep, and take the second node away."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)

    def take_away() -> None:
        until(lambda: begun(notes) == 2, "two trials")
        cluster.remove_node(second, allow_graceful=False)
        (notes / "gone").touch()

    taker = threading.Thread(target=take_away)
    taker.start()
    tune(load_sweep(sweep, ["data.hold=10"]))
    taker.join()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
