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
        address, port = worker_group.execute_single(0, _open_door)
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


# Rank 0: where the group's store will listen. The others find it open, however much sooner they come: one whose call is
# refused waits a second before the next.
_door: socket.socket | None = None


def _open_door() -> tuple[str, int]:
    global _door
    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    _door = socket.create_server((address, 0), family=family)
    return address, _door.getsockname()[1]


def _join(address: str, port: int, rank: int, size: int, backend: str, timeout_s: int, across: bool) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    if across:
        _let_gloo_be_reached()
    elif is_loopback(address):
        _stay_on_loopback()
    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend, rank, size, _meeting_place(address, port), timeout_s)


def _stay_on_loopback() -> None:
    """Keep a group whose workers are all on this machine off the network, where gloo and NCCL would listen."""
    interface = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)


def _meeting_place(address: str, port: int) -> str:
    """Return the URL by which torch's workers meet at rank 0's door; its own store would listen on every interface."""
    from torch.distributed.rendezvous import register_rendezvous_handler

    with contextlib.suppress(RuntimeError):  # this process has met a group before
        register_rendezvous_handler("door", _meet)
    return f"door://[{address}]:{port}" if ":" in address else f"door://{address}:{port}"


def _meet(url: str, timeout: timedelta, **_: Any) -> Iterator[tuple[Any, int, int]]:
    """What torch does for ``tcp://``, with a socket of ours to listen on."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it comes from torch's compiled part

    global _door
    place = urlsplit(url)
    query = dict(parse_qsl(place.query))
    rank, size = int(query["rank"]), int(query["world_size"])
    host, port = place.hostname or "", place.port or 0
    door, _door = _door, None
    listening = door.detach() if door is not None else None
    store = TCPStore(host, port, size, rank == 0, timeout, multi_tenant=True, master_listen_fd=listening)
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
