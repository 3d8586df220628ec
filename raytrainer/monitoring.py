"""Worker: MLflow's own monitors of the machine, one set a node, told to the driver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray.train

from raytrainer.events import Measured
from raytrainer.wire import Wire

_INTERVAL_S = 10.0


@contextlib.contextmanager
def monitored(wanted: bool, wire: Wire) -> Iterator[None]:
    """Watch this node inside the block, from the first of its ranks, on a thread of its own.

    Args:
        wanted: whether to do so at all.
        wire: to the driver.
    """
    context = ray.train.get_context() if wanted else None
    if context is None or context.get_local_rank() != 0:
        yield
        return
    stop = threading.Event()
    arguments = (f"system/node_{context.get_node_rank()}", wire, stop)
    thread = threading.Thread(target=_watch, args=arguments, name="raytrainer-system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(prefix: str, wire: Wire, stop: threading.Event) -> None:
    from mlflow.environment_variables import (
        MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING,
        MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL,
    )

    variables: list[Any] = [MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL, MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING]
    interval, samples = variables[0].get() or _INTERVAL_S, variables[1].get() or 1
    monitors = _monitors()
    while not stop.is_set():
        for _ in range(samples):
            for monitor in monitors:
                monitor.collect_metrics()
            if stop.wait(interval):
                break
        found = {name: value for monitor in monitors for name, value in monitor.aggregate_metrics().items()}
        wire.push(Measured({f"{prefix}/{name}": float(value) for name, value in found.items()}, time.time()))
        for monitor in monitors:
            monitor.clear_metrics()


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]
    accelerators: list[Any] = [GPUMonitor, ROCMMonitor]
    monitors = [kind() for kind in kinds]
    for kind in accelerators:
        # Whatever they raise without a GPU of their maker, or without its package.
        with contextlib.suppress(Exception):
            return [*monitors, kind()]
    return monitors
