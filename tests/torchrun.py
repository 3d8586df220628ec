"""The peer of the equality tests: a script on two processes of one machine, by torchrun.

As a program it runs the script that its first argument names, or the module after ``-m``, as ``__main__`` and then ends
the process group: left to the interpreter's exit, gloo's threads now and then abort a process whose peer has gone.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch.distributed


def torchrun(script: Path | str, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a script, or a module that is named by a text, on two CPU processes and return what it printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", __file__]
    command += [*(["-m"] if isinstance(script, str) else []), str(script), *arguments]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", **(env or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


if __name__ == "__main__":
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        sys.path[0] = os.getcwd()
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
