"""One rank's life with a script, from set-up to its exit."""

from __future__ import annotations

import filecmp
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
from ray.train.v2._internal import util as ray_train_util

from raytrainer.errors import ScriptFailed, UserError
from raytrainer.monitoring import monitored
from raytrainer.order import Result
from raytrainer.orders import orders
from raytrainer.outbox import Outbox
from raytrainer.script_hooks import Hooks
from raytrainer.script_main import run_as_main, show_exception
from raytrainer.script_order import ScriptOrder
from raytrainer.script_output import Output
from raytrainer.script_storage import Places
from raytrainer.wire import RelayWire
from raytrainer.worker import settle_in


def script_loop(config: dict[str, Any]) -> None:
    """Run a :class:`ScriptOrder` on this rank; the function that Ray Train runs on every worker.

    Args:
        config: ``relay``, the driver's, which has the one order.

    Raises:
        ScriptFailed: the script did, on this rank.
    """
    clock = time.monotonic()
    context, wire = ray.train.get_context(), RelayWire(config["relay"])
    rank = context.get_world_rank()
    outbox = Outbox(wire, rank)
    (read,) = orders(config["relay"], rank)
    order = _at_home(read())
    settle_in(order.environment, order.directory, order.use_cpu)
    # It logs the traceback of what is raised, which is in the script's output already.
    logging.getLogger(ray_train_util.__name__).setLevel(logging.CRITICAL)
    places = Places(order)
    output = Output(places.logs, rank, outbox)
    hooks = Hooks(order, context.get_world_size(), places, wire, outbox)
    hooks.install()
    outbox.phase("set-up", clock)
    try:
        with monitored(order.system_metrics, wire):
            result = _run(order, hooks, rank)
    finally:
        output.finish()
        if rank == 0:
            places.bring_files(outbox)
        places.bring_logs(output.files.values(), outbox)
        outbox.settle()
    if rank == 0:
        wire.deliver(result)


def _run(order: ScriptOrder, hooks: Hooks, rank: int) -> Result:
    try:
        run_as_main(order.target, order.module, order.arguments)
    except UserError as error:
        # Raised alike on every rank. Returned, because Ray would retry what is raised.
        return Result(error=error)
    except SystemExit as end:
        text = "" if end.code is None or isinstance(end.code, int) else f"{end.code}\n"
        status = 1 if text else int(end.code or 0)
        sys.stderr.write(text)
        if status:
            raise ScriptFailed(rank, text, status) from None
    except BaseException as error:
        if not (isinstance(error, KeyboardInterrupt) and hooks.stopped is not None):
            raise _failed(error, rank) from None
    return Result(stopped=hooks.stopped)


def _failed(error: BaseException, rank: int) -> BaseException:
    from raytrainer.stopping import Left

    if isinstance(error, Left):
        return error
    import traceback

    show_exception(error)
    return ScriptFailed(rank, "".join(traceback.format_exception(error)))


def _at_home(order: ScriptOrder) -> ScriptOrder:
    """Return the order with the folders that this machine has: its own where nothing differs, else those sent here."""
    sent = os.getcwd()
    if order.root is None or order.node == ray.get_runtime_context().get_node_id() or _same(sent, order.root):
        return order

    def here(path: str) -> str:
        return os.path.normpath(os.path.join(sent, os.path.relpath(path, order.root)))

    directory = order.directory
    if not os.path.isdir(directory) or Path(directory).is_relative_to(order.root):
        directory = here(directory) if Path(directory).is_relative_to(order.root) else sent
    return replace(order, target=order.target if order.module else here(order.target), directory=directory)


def _same(sent: str, root: str) -> bool:
    """Tell whether everything that was sent is at the folder it comes from."""
    names = [path.relative_to(sent) for path in Path(sent).rglob("*") if path.is_file()]
    same, _, _ = filecmp.cmpfiles(sent, root, [str(name) for name in names], shallow=False)
    return len(same) == len(names)
