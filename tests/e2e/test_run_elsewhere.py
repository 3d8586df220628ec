"""A worker on a machine that has nothing of the user's folder: a second node in a mount namespace that hides it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_run import raytrainer_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """
import os
from pathlib import Path
import beside
from package.part import PART

print(beside.NAME, PART, Path(__file__).with_name("words.txt").read_text(), os.path.exists("ignored.bin"))
open("made-here", "w").close()
"""


def ray_start(*options: str, hide: Path | None = None) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options]
    if hide is not None:
        command = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {hide} && exec "$@"', "sh", *command]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "package").mkdir(parents=True)
    (project / "package/__init__.py").touch()
    (project / "package/part.py").write_text("PART = 'part'")
    (project / "beside.py").write_text("NAME = 'beside'")
    (project / "words.txt").write_text("words")
    (project / "script.py").write_text(SCRIPT)
    (project / "ignored.bin").touch()
    (project / ".gitignore").write_text("*.bin\n")
    return project


@pytest.fixture
def elsewhere(project: Path) -> Iterator[str]:
    """A cluster whose slots are all on the node that does not have the project; its address."""
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    head = ["--head", "--num-cpus=0", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    started = [ray_start(*head)]
    try:
        _until_it_listens(port)
        started.append(ray_start(f"--address={address}", "--num-cpus=2", hide=project))
        _until_it_has_slots(address)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _until_it_has_slots(address: str) -> None:
    """In a process of its own: this one may be connected to another Ray."""
    code = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
deadline = time.monotonic() + 120
while not ray.cluster_resources().get("CPU") and time.monotonic() < deadline:
    time.sleep(0.2)
"""
    subprocess.run([sys.executable, "-c", code, address], check=True, capture_output=True)


def test_a_script_and_its_modules_reach_another_machine(project: Path, elsewhere: str) -> None:
    done = raytrainer_run("-n2", "--address", elsewhere, "script.py", cwd=project)
    assert done.stdout == "beside part words False\n"
    done = raytrainer_run("-n2", "--address", elsewhere, "-m", "script", cwd=project)
    assert done.stdout == "beside part words False\n"
    # Started in another folder: the script's own is what the other machine gets.
    (project / "start").mkdir()
    done = raytrainer_run("-n2", "--address", elsewhere, "../script.py", cwd=project / "start")
    assert done.stdout == "beside part words False\n"
    assert not (project / "made-here").exists()
