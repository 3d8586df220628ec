"""The command line. Each command imports what it needs, so that --help answers at once."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; None for this process's.

    Returns:
        The exit status: 0 done, 1 failed, 2 the user's mistake, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="raytrainer", description="HuggingFace trainers on Ray Train workers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    resume = commands.add_parser(
        "resume",
        help="go on with a run that was interrupted, killed, or failed",
        description="Start the program of a run again, in the folder it was started in; its training goes on from the"
        " newest checkpoint that is good. A finished run is left as it is.",
        epilog="example: raytrainer resume out; raytrainer resume s3://bucket/runs/dates",
    )
    resume.add_argument("run", metavar="RUN", help="the run's folder: output_dir, or storage_path/name")
    resume.add_argument(
        "--allow-changes", action="store_true", help="go on though model, data or their order are others now"
    )
    given = parser.parse_args(arguments)
    return _resume(given.run, given.allow_changes)


def _resume(run: str, allow_changes: bool) -> int:
    from raytrainer.checkpoints import Store
    from raytrainer.run_record import ALLOW_CHANGES_VARIABLE, RESUME_VARIABLE, read_record

    folder = run if "://" in run else os.path.abspath(os.path.expanduser(run))
    try:
        record = read_record(Store(folder))
    except (FileNotFoundError, NotADirectoryError):
        return _mistake(f"RUN = {run!r}: there is no run.json in it", "the folder that the run printed: its output_dir")
    except (OSError, ValueError) as error:
        return _mistake(f"RUN = {run!r}: its run.json cannot be read: {error}", "the folder of a run of raytrainer")
    if record.state == "finished":
        print(f"{run} is finished: step {record.step} of {record.max_steps}")
        return 0
    if record.command is None:
        reason = "it was started in a notebook or an interactive session, so there is no command to repeat"
        return _mistake(f"RUN = {run!r}: {reason}", "there: trainer.train(resume_from_checkpoint=True)")
    if not os.path.isdir(record.directory):
        reason = f"it was started in {record.directory}, which is not on this machine"
        return _mistake(f"RUN = {run!r}: {reason}", "call this where that folder is")
    os.chdir(record.directory)
    os.environ[RESUME_VARIABLE] = folder
    if allow_changes:
        os.environ[ALLOW_CHANGES_VARIABLE] = "1"
    print(f"{run}: {record.state} at step {record.step} of {record.max_steps}", file=sys.stderr, flush=True)
    # In place of this process: Ctrl-C, output and exit status are the program's own.
    try:
        os.execvp(record.command[0], record.command)
    except OSError as error:
        reason = f"{record.command[0]} cannot be run here: {error.strerror}"
        again = f"{RESUME_VARIABLE}={shlex.quote(folder)} and its run.json's command, with another program in its place"
        return _mistake(f"RUN = {run!r}: {reason}", again)


def _mistake(what: str, instead: str) -> int:
    print(f"raytrainer resume: {what}\n  Instead: {instead}", file=sys.stderr)
    return 2
