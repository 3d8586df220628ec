"""``raytrainer resume``: the program of a run, once more, in this process's place."""

from __future__ import annotations

import os
import shlex
import sys

from raytrainer.address import ADDRESS_VARIABLE
from raytrainer.errors import Problem, UserError
from raytrainer.secrets import HIDDEN


def resume(run: str, allow_changes: bool, address: str | None = None) -> None:
    """Become the program of a run that was interrupted, killed, or failed; returns where the run is finished.

    Args:
        run: the run's folder, a path or a URI.
        allow_changes: whether to go on though model, data or their order are others now.
        address: of the Ray cluster, in the place of the one that the run had; None for that one.

    Raises:
        UserError: there is no run in the folder, or none that can be started from here.
    """
    from raytrainer.checkpoints import Store
    from raytrainer.run_record import ALLOW_CHANGES_VARIABLE, RESUME_VARIABLE, read_record

    def mistake(reason: str, fix: str) -> UserError:
        return UserError(Problem("RUN", run, reason, fix))

    folder = run if "://" in run else os.path.abspath(os.path.expanduser(run))
    try:
        record = read_record(Store(folder))
    except (FileNotFoundError, NotADirectoryError):
        raise mistake("there is no run.json in it", "the folder that the run printed: its output_dir") from None
    except (OSError, ValueError) as error:
        raise mistake(f"its run.json cannot be read: {error}", "the folder of a run of raytrainer") from error
    if record.state == "finished":
        print(f"{run} is finished: {record.progress}")
        return
    if record.command is None:
        reason = "it was started in a notebook or an interactive session, so there is no command to repeat"
        raise mistake(reason, "there: trainer.train(resume_from_checkpoint=True)")
    if any(HIDDEN in word for word in record.command):
        reason = f"its command had a secret in it, which is not kept: {shlex.join(record.command)}"
        again = (
            f"{RESUME_VARIABLE}={shlex.quote(folder)} and the command with the secret; or give it in the environment"
        )
        raise mistake(reason, f"{again} from the start: HF_TOKEN, MLFLOW_TRACKING_PASSWORD")
    if not os.path.isdir(record.directory):
        reason = f"it was started in {record.directory}, which is not on this machine"
        raise mistake(reason, "call this where that folder is")
    os.chdir(record.directory)
    os.environ[RESUME_VARIABLE] = folder
    if allow_changes:
        os.environ[ALLOW_CHANGES_VARIABLE] = "1"
    if address is not None:
        os.environ[ADDRESS_VARIABLE] = address
    # Whoever can write the record decides what runs here: it is shown before it does.
    again = f"in {record.directory}: {shlex.join(record.command)}"
    print(f"{run}: {record.state} at {record.progress}; {again}", file=sys.stderr, flush=True)
    # In place of this process: Ctrl-C, output and exit status are the program's own.
    try:
        os.execvp(record.command[0], record.command)
    except OSError as error:
        reason = f"{record.command[0]} cannot be run here: {error.strerror}"
        again = f"{RESUME_VARIABLE}={shlex.quote(folder)} and its run.json's command, with another program in its place"
        raise mistake(reason, again) from error
