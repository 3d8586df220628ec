"""A job is followed to its end by Ray's own client, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from aiohttp import web

from raytrainer.errors import ResourcesError
from raytrainer.launch import following, jobs

LINES = ["one\n", "two\n", "three\n"]
BREAKS, BUSY, UNKNOWN = "breaks", 500, 404


class JobServer:
    """Ray's job server as far as it is asked about a job: each list has its answers, of which the last one stays.

    ``states`` are what it says of the job, ``tails`` how many lines it shows before the connection ends and whether
    that breaks, ``logs`` the whole log, ``stops`` what it says when it is asked to stop the job.
    """

    def __init__(self) -> None:
        self.states: list[str | int] = ["RUNNING"]
        self.tails: list[tuple[int, str | None]] = [(len(LINES), None)]
        self.logs: list[str | int] = ["".join(LINES)]
        self.stops: list[str | int] = ["STOPPED"]
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_get("/api/version", self._version)
        application.router.add_get("/api/jobs/job", self._state)
        application.router.add_get("/api/jobs/job/logs", self._log)
        application.router.add_get("/api/jobs/job/logs/tail", self._tail)
        application.router.add_post("/api/jobs/job/stop", self._stop)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"ray_version": ray.__version__})

    async def _state(self, request: web.Request) -> web.Response:
        job = {"type": "SUBMISSION", "entrypoint": "true", "status": self.states[0], "driver_exit_code": 7}
        return _answer(request, _next(self.states), job)

    async def _log(self, request: web.Request) -> web.Response:
        return _answer(request, self.logs[0], {"logs": _next(self.logs)})

    async def _stop(self, request: web.Request) -> web.Response:
        return _answer(request, _next(self.stops), {"stopped": True})

    async def _tail(self, request: web.Request) -> web.WebSocketResponse:
        lines, end = _next(self.tails)
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        for line in LINES[:lines]:
            await answer.send_str(line)
        if end is BREAKS:
            assert request.transport is not None
            request.transport.close()
        return answer


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


def _answer(request: web.Request, said: str | int, document: dict[str, Any]) -> web.Response:
    if said is BREAKS:
        assert request.transport is not None
        request.transport.abort()
    if isinstance(said, int):
        return web.Response(status=said, text="the reason")
    return web.json_response(document)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobServer]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(following, "_POLL_S", 0.01)
    server = JobServer()
    yield server
    server.close()


@pytest.mark.parametrize("end", [BREAKS, None])
def test_what_a_job_writes_is_shown_once_whatever_becomes_of_the_connection(
    end: str | None, server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tails = [(1, end), (0, BREAKS), (2, end)]
    server.states = ["RUNNING", BUSY, BREAKS, "RUNNING", "RUNNING", BUSY, "FAILED"]
    assert jobs.follow(jobs.connect(server.address), "job") == 7
    shown = capsys.readouterr()
    assert shown.out == "".join(LINES)
    assert "job: it goes on; what it does is not known for now: the server does not answer" in shown.err


def test_a_log_whose_node_is_gone_keeps_nobody_from_the_jobs_end(
    server: JobServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "_LAST_LINES_S", 0.05)
    server.states, server.logs = ["SUCCEEDED"], [BUSY]
    assert jobs.follow(jobs.connect(server.address), "job") == 0
    assert "the end of its log is not shown" in capsys.readouterr().err


def test_a_server_that_stays_away_and_one_that_does_not_know_the_job_are_told_apart(
    server: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = jobs.connect(server.address)
    server.states = [BUSY]
    with monkeypatch.context() as impatient, pytest.raises(following.Unanswered, match="status code 500: the reason"):
        impatient.setattr(following, "_AWAY_S", 0.05)
        jobs.follow(client, "job")
    server.states = [BUSY, UNKNOWN]
    with pytest.raises(ResourcesError, match="the server knows no such job"):
        jobs.follow(client, "job")


def test_a_job_is_stopped_when_the_server_answers_again(server: JobServer) -> None:
    follower = jobs._Follower(jobs.connect(server.address), "job")
    server.states, server.stops = ["STOPPED"], [BUSY, BREAKS, "STOPPED"]
    follower.stop()
    assert follower.look() == following.INTERRUPTED
    assert server.stops == ["STOPPED"]


@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED"])
def test_nobody_who_reads_is_no_lost_connection(state: str, server: JobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(text: str) -> None:
        raise BrokenPipeError

    server.states = [state]
    client = jobs.connect(server.address)
    monkeypatch.setattr("sys.stdout.write", write)
    with pytest.raises(BrokenPipeError):
        jobs.follow(client, "job")
