"""Ray Train's torch backend, of which only the workers import torch; the controller starts 3 s sooner for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig


@dataclass
class ProcessGroupConfig(BackendConfig):
    """What ``ray.train.torch.TorchConfig`` is, without importing torch where it is read.

    Args:
        backend: torch.distributed's backend: ``nccl``, ``gloo`` or ``tpu_dist``.
        timeout_s: seconds after which a collective operation fails.
    """

    backend: str = "gloo"
    timeout_s: int = 1800

    @property
    def backend_cls(self) -> type[Backend]:
        return _ProcessGroup

    @property
    def train_func_context(self) -> Any:
        return _DefaultDevice


class _DefaultDevice:
    """Worker: makes the GPU that Ray gave this worker torch's default one, as Ray's own context does."""

    def __enter__(self) -> None:
        from ray.train.torch.config import TorchConfigContextManager

        TorchConfigContextManager().__enter__()

    def __exit__(self, *exception: object) -> None:
        pass


class _ProcessGroup(Backend):
    """Controller: has every worker set torchrun's variables and join the group."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, ProcessGroupConfig)
        address, port = worker_group.execute_single(0, _address_and_port)
        size = len(worker_group)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, address, port, rank, size, backend_config.backend, backend_config.timeout_s
                )
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        worker_group.execute_async(_leave)


def _address_and_port() -> tuple[str, int]:
    from ray.train._internal.utils import get_address_and_port

    return get_address_and_port()


def _join(address: str, port: int, rank: int, size: int, backend: str, timeout_s: int) -> None:
    import os

    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend, rank, size, "env://", timeout_s)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
