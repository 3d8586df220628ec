"""Ray Train's torch backend, of which only the workers import torch; the controller starts 3 s sooner for it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psutil
import ray
from ray.train.backend import Backend, BackendConfig

from raytrainer.loopback import is_loopback


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
        across = len({worker.metadata.node_ip for worker in worker_group.get_workers()}) > 1
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, address, port, rank, size, backend_config.backend, backend_config.timeout_s, across
                )
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        worker_group.execute_async(_leave)


def _address_and_port() -> tuple[str, int]:
    from ray.train._internal.utils import get_address_and_port

    return get_address_and_port()


def _join(address: str, port: int, rank: int, size: int, backend: str, timeout_s: int, across: bool) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    if across:
        _let_gloo_be_reached()
    _set_torch_distributed_env_vars()
    method = _on_loopback(address, port) if is_loopback(address) else "env://"
    _setup_torch_process_group(backend, rank, size, method, timeout_s)


def _on_loopback(address: str, port: int) -> str:
    """Keep a group whose workers are all on this machine off the network; return the URL by which it meets.

    torch's store listens on every interface, gloo and NCCL on that of the machine's name.
    """
    from torch.distributed.rendezvous import register_rendezvous_handler

    interface = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    with contextlib.suppress(RuntimeError):  # this process has met a group before
        register_rendezvous_handler("loopback", _meet)
    return f"loopback://[{address}]:{port}" if ":" in address else f"loopback://{address}:{port}"


def _meet(url: str, timeout: timedelta, **_: Any) -> Iterator[tuple[Any, int, int]]:
    """What torch does for ``tcp://``, with a socket of ours to listen on."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it comes from torch's compiled part

    place = urlsplit(url)
    query = dict(parse_qsl(place.query))
    rank, size = int(query["rank"]), int(query["world_size"])
    host, port, first = place.hostname or "", place.port or 0, rank == 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family).detach() if first else None
    store = TCPStore(host, port, size, first, timeout, multi_tenant=True, master_listen_fd=listening)
    yield store, rank, size


def _let_gloo_be_reached() -> None:
    """Have gloo use the interface by which Ray's nodes reach this one, unless the user chose another.

    By itself it takes the one that this host's own name leads to, which is 127.0.1.1 on Debian and its descendants.
    """
    address = ray.util.get_node_ip_address()
    for interface, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
