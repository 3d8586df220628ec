"""Ray's job server: what a user asks of it, and what it says, in one form."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from raytrainer.errors import Problem, ResourcesError
from raytrainer.launch.following import INTERRUPTED, Unanswered, absence, asked_again, stopping
from raytrainer.progress_view import duration

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
# Ray lets these two count more than an address that it is given.
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# How long the end of a log may take to arrive: the node that has it may be gone.
_LAST_LINES_S = 30.0
STOP_S = 60
# Ray kills a job 3 s after it has asked it to stop: too soon for a checkpoint.
STOP = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}


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
        Unanswered: it cannot be asked now.
        ResourcesError: it has none of that name.
    """
    with _answered(job):
        return client.get_job_info(job)


@contextlib.contextmanager
def _answered(job: str) -> Iterator[None]:
    """Turn what Ray's client raises about a job into what it means for the user."""
    from aiohttp import ClientError

    try:
        yield
    except (RuntimeError, OSError, ClientError) as error:
        # The client has the status in its text only.
        if str(error).startswith("Request failed with status code 404"):
            fix = "an ID that raytrainer jobs lists"
            raise ResourcesError(Problem("the job's ID", job, "the server knows no such job", fix)) from error
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        fix = f"raytrainer logs {job} --follow, when the head is there again; the job goes on"
        raise Unanswered(Problem("the job", job, f"the server does not answer: {line}", fix)) from error


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


class _Follower:
    """Shows what a job writes, each line once, whatever becomes of the connection.

    Args:
        client: of the server.
        job: its submission ID.
    """

    def __init__(self, client: Any, job: str) -> None:
        self._client, self._job = client, job
        self._written = 0
        self._stops = False
        self.away = absence(job)

    def stop(self) -> None:
        """Stop the job, as soon as the server answers."""
        self._stops = True
        with contextlib.suppress(Unanswered), _answered(self._job):
            self._client.stop_job(self._job)
            self._stops = False

    def look(self) -> int | None:
        """Show what is written until the connection ends; return the exit status where the job has ended."""
        if self._stops:
            self.stop()
        known = details(self._client, self._job)
        if known.status.is_terminal():
            self._show_end()
            return status(known)
        try:
            asyncio.run(self._show())
        except Unanswered as error:
            self.away(error)
        return None

    async def _show(self) -> None:
        place, texts = 0, self._client.tail_job_logs(self._job)
        while True:
            with _answered(self._job):
                text = await anext(texts, None)
            if text is None:
                return
            # Not in there: a stdout that is closed is no lost connection.
            place = self._write(text, place)

    def _show_end(self) -> None:
        try:
            asked_again(self._rest, lambda error: None, _LAST_LINES_S)
        except Unanswered as error:
            print(f"{self._job}: the end of its log is not shown: {error.problems[0].reason}", file=sys.stderr)

    def _rest(self) -> bool:
        with _answered(self._job):
            log = self._client.get_job_logs(self._job)
        self._write(log, 0)
        return True

    def _write(self, text: str, place: int) -> int:
        """Write what is new of a text that begins at a place in the log; return the place of its end."""
        end = place + len(text)
        sys.stdout.write(text[max(0, self._written - place) :])
        sys.stdout.flush()
        self._written = max(self._written, end)
        return end


def follow(client: Any, job: str) -> int:
    """Show what a job writes until it ends. Ctrl-C once asks, twice stops the job.

    Args:
        client: of the server.
        job: its submission ID.

    Returns:
        The exit status: the job's own, 1 where it has none, 130 where it was stopped.

    Raises:
        ResourcesError: the server knows the job no more, or has been away for long.
    """
    follower = _Follower(client, job)
    with stopping(job, f"raytrainer logs {job}", follower.stop):
        return asked_again(follower.look, follower.away)


def ended(client: Any, job: str) -> Any:
    """Wait until a job has ended, and return what the server knows of it."""

    def look() -> Any:
        known = details(client, job)
        return known if known.status.is_terminal() else None

    return asked_again(look, absence(job))


def status(known: Any) -> int:
    """Return the exit status that a job's end means."""
    if known.status == "SUCCEEDED":
        return 0
    if known.status == "STOPPED":
        return INTERRUPTED
    return known.driver_exit_code or 1
