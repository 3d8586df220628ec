"""The folder that other nodes get stays with the cluster for those that join later."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from ray._private import ray_constants
from ray._private.runtime_env.packaging import package_exists

from raytrainer.launch import sending
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_folder_stays_longer_than_ray_keeps_it_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 3
    monkeypatch.setenv(ray_constants.RAY_RUNTIME_ENV_URI_PIN_EXPIRATION_S_ENV_VAR, str(seconds))
    monkeypatch.setattr(sending, "autoscaler", lambda: "an autoscaler, which may bring a node at any time")
    monkeypatch.chdir(tmp_path)
    Path("module.py").write_text(f"FOLDER = {str(tmp_path)!r}")
    first, second = sending.send_folder(None), sending.send_folder(None)
    assert first is not None and first == second
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 2 * seconds or not package_exists(first.uri), "twice Ray's own time")
    assert package_exists(first.uri)
    assert [thread.name for thread in threading.enumerate()].count("raytrainer-folder") == 1
