"""The storage, tried from a process on every node of the cluster."""

from __future__ import annotations

import uuid
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytrainer.checkpoints import Store, join
from raytrainer.launch.rows import Row

_WAIT_S = 120.0


def storage_row(storage: str) -> Row:
    """Write to the storage and read from it on every node, and see on the driver what they wrote.

    Args:
        storage: a path or a URI; nothing is left in it.
    """
    what, mark = "storage", uuid.uuid4().hex
    store = Store(join(storage, f".check-{mark}"))
    try:
        store.write("driver", mark.encode())
    except Exception as error:  # of any storage
        return Row(what, "failed", f"run.storage_path = {storage!r}: this machine cannot write there: {error}")
    try:
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        tries = {name: _try_on(name).remote(store, name, mark) for name in nodes}
        wrong = []
        for name, answer in tries.items():
            reason = _answer(answer)
            if reason is None and store.read(name) != mark.encode():
                reason = "what it wrote is not seen here: the storage is not shared"
            if reason is not None:
                wrong.append(f"{nodes[name]}: {reason}")
        if wrong:
            fix = "a folder that all machines share, or a URI such as s3://bucket/runs"
            return Row(what, "failed", f"run.storage_path = {storage!r}: " + "; ".join(wrong) + f"\n  Instead: {fix}")
        return Row(what, "ok", f"{storage}: written and read on {len(nodes)} node(s)")
    finally:
        store.delete()
        store.prune(storage)


def _answer(answer: Any) -> str | None:
    try:
        reason: str | None = ray.get(answer, timeout=_WAIT_S)
    except Exception as error:  # of the storage, or of the node
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return reason


def _try_on(node: str) -> Any:
    affinity = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_try).options(num_cpus=0, scheduling_strategy=affinity, max_retries=0)


def _try(store: Store, name: str, mark: str) -> str | None:
    try:
        if store.read("driver") != mark.encode():
            return "what this machine wrote reads differently there"
    except FileNotFoundError:
        return "what this machine wrote is not seen there: the storage is not shared"
    store.write(name, mark.encode())
    return None
