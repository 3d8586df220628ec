"""What looks for processes that tests have left finds them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

from tests.leftovers import MARK, left

SLEEPS = [sys.executable, "-c", "import sys, time; print(flush=True); time.sleep(600)"]


def test_a_process_that_stays_is_found_though_it_has_left_this_ones_tree() -> None:
    mark = uuid.uuid4().hex
    # Its parent ends at once.
    quiet = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    program = f"import subprocess; print(subprocess.Popen({SLEEPS!r}, {quiet}).pid)"
    environment = {**os.environ, MARK: mark}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    try:
        (found,) = left(mark, patience=0)
        assert found.startswith(f"{pid}: ")
    finally:
        os.kill(pid, 9)
    assert left(mark) == []


def test_a_process_below_this_one_is_found_whatever_its_environment() -> None:
    with subprocess.Popen(SLEEPS, env={}, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert [found for found in left("another", patience=0) if found.startswith(f"{process.pid}: ")]
        finally:
            process.kill()
