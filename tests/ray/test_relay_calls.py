"""What a rank and the driver tell each other where connections break, or what the driver has to do for it raises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from raytrainer.events import Evaluated
from raytrainer.listener import Listener
from raytrainer.relay import relay_here
from raytrainer.wire import RelayWire, Verdict
from tests.waiting import until

pytestmark = pytest.mark.ray

STEPS = 12
# Of the first calls of a driver more than half break, some before they are carried out and some after it.
BROKEN = {"num_failures": 12, "req_failure_prob": 20, "resp_failure_prob": 20, "in_flight_failure_prob": 20}


def test_calls_that_ray_loses_arrive_all_the_same_and_once(tmp_path: Path, address: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_ADDRESS": address}
    environment["RAY_testing_rpc_failure"] = json.dumps({"CoreWorkerService.grpc_client.PushTask": BROKEN})
    command = [sys.executable, "-m", "tests.ray.broken_connections", str(STEPS), str(tmp_path / "seen.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "seen.json").read_text()) == {
        "heard": [str(step) for step in range(STEPS)],
        "judged": list(range(STEPS)),
        "told": ["GO_ON", "SAVE", "STOP"] * (STEPS // 3),
        "result": "result",
    }


def test_rank_0_does_not_wait_for_an_objective_that_raises(ray_cluster: None) -> None:
    def judge(evaluated: Evaluated) -> NoReturn:
        raise KeyError("eval_f1")

    relay, verdicts = relay_here(), list[Verdict]()

    def rank_0() -> None:
        verdicts.append(RelayWire(relay).judge(Evaluated(1, 2, None, {}, 0.0)))

    with pytest.raises(KeyError, match="eval_f1"), Listener(relay, [], judge):
        _within(rank_0)
    assert verdicts == [Verdict.STOP]


class Unreadable:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _refuse, ("made on a GPU",)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def test_rank_0_does_not_wait_where_its_result_cannot_be_read(ray_cluster: None) -> None:
    relay = relay_here()
    with pytest.raises(Exception, match="made on a GPU"), Listener(relay, []):
        _within(lambda: RelayWire(relay).deliver(Unreadable()))


def _within(rank_0: Callable[[], None]) -> None:
    rank = threading.Thread(target=rank_0, daemon=True)
    rank.start()
    until(lambda: not rank.is_alive(), "rank 0")
