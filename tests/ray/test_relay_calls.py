"""What a rank tells the driver, and is told, where connections break: nothing is missing, nothing comes twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

STEPS = 12
# Of the first calls of a driver more than half break, some before they are carried out and some after it.
BROKEN = {"num_failures": 12, "req_failure_prob": 20, "resp_failure_prob": 20, "in_flight_failure_prob": 20}

pytestmark = pytest.mark.ray


def test_calls_that_ray_loses_arrive_all_the_same_and_once(address: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_ADDRESS": address}
    environment["RAY_testing_rpc_failure"] = json.dumps({"CoreWorkerService.grpc_client.PushTask": BROKEN})
    command = [sys.executable, "-m", "tests.ray.broken_connections", str(STEPS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "heard": [str(step) for step in range(STEPS)],
        "judged": list(range(STEPS)),
        "told": ["GO_ON", "SAVE", "STOP"] * (STEPS // 3),
        "result": "result",
    }
