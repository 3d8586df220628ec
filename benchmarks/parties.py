"""The parties of a benchmark: each is the benchmark's own file, run as a process of its own, alone or by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sweep_task import environment

LIMIT_S = 3600
SAID = "said.json"
"""Into this file of its folder a party writes what it measured."""


def say(folder: Path, said: dict[str, Any]) -> None:
    """Write what a party measured, whole or not at all."""
    part = folder / f"{SAID}.part"
    part.write_text(json.dumps(said))
    part.rename(folder / SAID)


def run_party(
    file: str,
    party: str,
    folder: Path,
    *options: str,
    torchrun: int = 0,
    script: int = 0,
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run a party to its end.

    Args:
        file: the benchmark's.
        party: its name.
        folder: of its own; made here.
        options: more of the command line.
        torchrun: how many processes torchrun starts; 0 for one that is started without it.
        script: how many workers ``raytrainer run`` starts it on; 0 likewise.
        variables: more of the environment.

    Returns:
        What it said, if anything, and ``began``, the time at which it was started.
    """
    folder.mkdir(parents=True)
    starter = ["-m", "torch.distributed.run", f"--nproc-per-node={torchrun}", "--rdzv-backend=c10d"]
    starter = [*starter, "--rdzv-endpoint=localhost:0"] if torchrun else []
    if script:
        starter = ["-m", "raytrainer", "run", "-n", str(script), "--no-mlflow"]
    command = [sys.executable, *starter, file, "--party", party, "--folder", str(folder), *options]
    path = os.pathsep.join(filter(None, [os.path.dirname(os.path.abspath(file)), os.environ.get("PYTHONPATH")]))
    known = {**environment(), "PYTHONPATH": path}
    known.pop("RAY_ADDRESS", None)
    known.update(variables or {})
    if torchrun:
        # Without it accelerate takes no process group on the CPU, and every process trains alone.
        known["ACCELERATE_USE_CPU"] = "true"
    # A limit, so that a party that waits for what never comes ends the benchmark too.
    log = folder / "log"
    began = time.time()
    with log.open("w") as lines:
        done = subprocess.run(command, env=known, stdout=lines, stderr=subprocess.STDOUT, check=False, timeout=LIMIT_S)
    if done.returncode:
        sys.exit(f"{party} ended with {done.returncode}:\n{log.read_text()[-4000:]}")
    said: dict[str, Any] = json.loads((folder / SAID).read_text()) if (folder / SAID).exists() else {}
    return {**said, "began": began}


def leave_group() -> None:
    """End torchrun's process group: left to the interpreter's exit, gloo's threads now and then abort a process."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
