"""Ray's job server: what a user asks of it, and what it says, in one form."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from raytrainer.errors import Problem, ResourcesError
from raytrainer.progress_view import duration

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
# Ray lets these two count more than an address that it is given.
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_POLL_S = 0.5
INTERRUPTED = 130


def connect(address: str | None) -> Any:
    """Connect to a job server.

    Args:
        address: of the head's dashboard (``http://head:8265``), or of the cluster; None for RAY_API_SERVER_ADDRESS,
            RAY_ADDRESS, else this machine's.

    Returns:
        Ray's JobSubmissionClient.

    Raises:
        ResourcesError: nobody answers, or the token is missing or wrong.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    known = [os.environ[name] for name in _ADDRESSES if os.environ.get(name)]
    asked = address or next(iter(known), DEFAULT_ADDRESS)
    try:
        with _unset(*_ADDRESSES):
            return JobSubmissionClient(asked)
    except AuthenticationError as error:
        text = str(error)
        reason = "the cluster wants a token" if "missing" in text.lower() else "the cluster refuses the token"
        fix = "RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as on the head (ray get-auth-token)"
        raise ResourcesError(Problem("the token", "as this program has it", reason, fix)) from error
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        fix = f"the address of the head's dashboard, such as {DEFAULT_ADDRESS}"
        raise ResourcesError(Problem("--address", asked, lines[0], fix)) from error


@contextlib.contextmanager
def _unset(*names: str) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def details(client: Any, job: str) -> Any:
    """Return what the server knows of a job.

    Raises:
        ResourcesError: it has none of that name.
    """
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        fix = "an ID that raytrainer jobs lists"
        raise ResourcesError(Problem("the job's ID", job, "the server knows no such job", fix)) from error


def show(client: Any) -> None:
    """Print a server's jobs, the newest first."""
    from rich.console import Console
    from rich.table import Table

    table = Table("job", "state", "began", "took", "command", box=None, pad_edge=False)
    jobs = [job for job in client.list_jobs() if job.submission_id]
    for job in sorted(jobs, key=lambda job: job.start_time or 0, reverse=True):
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((job.start_time or 0) / 1000))
        took = ((job.end_time or time.time() * 1000) - (job.start_time or 0)) / 1000
        table.add_row(job.submission_id, str(job.status).lower(), began, duration(took), job.entrypoint)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def follow(client: Any, job: str) -> int:
    """Show what a job writes until it ends. Ctrl-C once asks, twice stops the job.

    Args:
        client: of the server.
        job: its submission ID.

    Returns:
        The exit status: the job's own, 1 where it has none, 130 where it was stopped.
    """
    with stopping(job, f"raytrainer logs {job}", lambda: client.stop_job(job)):
        asyncio.run(_show(client, job))
        return status(ended(client, job))


@contextlib.contextmanager
def stopping(job: str, logs: str, stop: Callable[[], Any]) -> Iterator[None]:
    """Inside, Ctrl-C once asks, twice stops a job, and three times ends this program.

    Args:
        job: what it is called.
        logs: the command that shows what it writes.
        stop: stops it.
    """
    asked = 0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            print(f"\nonce more stops {job}; it goes on without this program, too: {logs}", file=sys.stderr)
        elif asked == 2:
            print(f"stopping {job}", file=sys.stderr)
            stop()
        else:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _show(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        sys.stdout.write(text)
        sys.stdout.flush()


def ended(client: Any, job: str) -> Any:
    """Wait until a job has ended, and return what the server knows of it."""
    while not (known := details(client, job)).status.is_terminal():
        time.sleep(_POLL_S)
    return known


def status(known: Any) -> int:
    """Return the exit status that a job's end means."""
    if known.status == "SUCCEEDED":
        return 0
    if known.status == "STOPPED":
        return INTERRUPTED
    return known.driver_exit_code or 1
