"""A cluster of any size, simulated: Ray Tune's trials are objects in a few processes, each on a slot of its own.

Ray Tune starts an actor a trial, which is a process; 256 of them fit on no small machine. Here what it takes for an
actor hands its calls to one of a few host actors, which holds many trials. All else is real: Ray Tune's loop, placement
groups on the cluster's logical slots, the calls and their results, and everything of raytrainer's on both sides but the
training, which ends at once with one evaluation and, where it is asked for one, a checkpoint without files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import posixpath
import time
from collections.abc import Iterator
from typing import Any

import ray

HOSTS = 2
# Trials of a host that can be at work at the same moment.
_THREADS = 16


class Host:
    """Process: holds trials by key."""

    def __init__(self) -> None:
        self._trials: dict[int, Any] = {}
        train_nothing()

    def make(self, key: int, kind: Any, kwargs: dict[str, Any]) -> None:
        self._trials[key] = kind(**kwargs)

    def call(self, key: int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return getattr(self._trials[key], method)(*args, **kwargs)

    def drop(self, key: int) -> None:
        self._trials.pop(key, None)


def train_nothing() -> None:
    """In this process, a trial's training is one evaluation."""
    import raytrainer.sweep.trial
    from raytrainer.events import Began, Evaluated
    from raytrainer.order import Result
    from raytrainer.wire import Verdict

    def run_here(job: Any) -> Result:
        for sink in job.sinks:
            sink.handle(Began(step=0, max_steps=1, world_size=1, batch_size=8, precision="fp32"))
        loss = abs(job.arguments[1]["learning_rate"] - 1e-2)
        said = Evaluated(1, 1, 1.0, {"eval_loss": loss}, time.time())
        if job.judge(said) is Verdict.SAVE:
            address = job.recovery.store.address(1)
            (job.recovery.store.folder / posixpath.basename(address)).mkdir(parents=True, exist_ok=True)
            job.judge(dataclasses.replace(said, checkpoint=address))
        return Result()

    vars(raytrainer.sweep.trial)["run_here"] = run_here


class _Method:
    def __init__(self, host: Any, key: int, name: str) -> None:
        self._host, self._key, self._name = host, key, name

    def options(self, **options: Any) -> _Method:
        return self

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        if self._name == "__ray_terminate__":
            return self._host.drop.remote(self._key)
        return self._host.call.remote(self._key, self._name, args, kwargs)


class _Actor:
    """What Ray Tune takes for the handle of an actor."""

    def __init__(self, host: Any, key: int, ready: Any) -> None:
        self._host, self._key, self._ready = host, key, ready

    def __getattr__(self, name: str) -> Any:
        if name == "__ray_ready__":
            return _Ready(self._ready)
        return _Method(self._host, self._key, name)

    def _kill(self) -> None:
        self._host.drop.remote(self._key)


class _Ready:
    def __init__(self, ready: Any) -> None:
        self._ready = ready

    def remote(self) -> Any:
        return self._ready


class _ActorClass(ray.actor.ActorClass):  # type: ignore[type-arg]
    """What Ray Tune takes for the class of an actor."""

    _keys = itertools.count()

    def __init__(self, hosts: list[Any], kind: type) -> None:
        # Once in the object store, not once a trial.
        self._hosts, self._kind = hosts, ray.put(kind)
        # A sweep on several nodes puts its folder's URI in; the hosts are on one machine, which has the folder.
        self._default_options: dict[str, Any] = {"runtime_env": {}}

    def options(self, **options: Any) -> _ActorClass:
        return self

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        key = next(self._keys)
        host = self._hosts[key % len(self._hosts)]
        return _Actor(host, key, host.make.remote(key, self._kind, kwargs))


@contextlib.contextmanager
def hosted(variables: dict[str, str], hosts: int = HOSTS) -> Iterator[None]:
    """Let Ray Tune's trials be objects in host processes, inside the block.

    Args:
        variables: of the hosts' environment.
        hosts: how many.
    """
    from ray.tune.execution.class_cache import _ActorClassCache

    options = {"num_cpus": 0, "max_concurrency": _THREADS, "runtime_env": {"env_vars": variables}}
    made = [ray.remote(**options)(Host).remote() for _ in range(hosts)]  # type: ignore[call-overload]
    cache: Any = _ActorClassCache
    before, kill = cache.get, ray.kill

    # Ray Tune kills an actor that takes long to stop.
    def kill_one(actor: Any, **options: Any) -> None:
        actor._kill() if isinstance(actor, _Actor) else kill(actor, **options)

    def get(self: Any, trainable: type) -> Any:
        if trainable not in self._cache:
            self._cache[trainable] = _ActorClass(made, trainable)
        return self._cache[trainable]

    cache.get, ray.kill = get, kill_one
    try:
        yield
    finally:
        cache.get, ray.kill = before, kill
