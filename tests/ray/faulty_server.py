"""A proxy in front of a real MLflow server that can be switched, by the tests and by the workers."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from transformers import TrainerCallback

from tests.unit.test_tracking import Server


class Proxy:
    """Hands requests on to a server; a request for ``/switch/NAME`` calls one of the switches.

    Args:
        server: the real one.
        switches: what may be asked for beside ``away``, ``back``, ``hang`` and ``go``.

    Attributes:
        uri: where it listens.
        fail: called with number and path of each request that is handed on; ``before`` or ``after`` makes it a 500.
        delay: seconds that every request waits.
    """

    def __init__(self, server: Server, **switches: Callable[[], None]) -> None:
        self.server, self.delay = server, 0.0
        self.fail: Callable[[int, str], str] = lambda number, path: ""
        self._open, self._lock, self._count = threading.Event(), threading.Lock(), 0
        self._open.set()
        self._listener: ThreadingHTTPServer | None = None
        self._port = 0
        self._switches: dict[str, Callable[[], None]] = {"away": self.stop, "back": self.start, **switches}
        self._switches |= {"hang": self._open.clear, "go": self._open.set}
        # Of its own, so that it can be asked while the proxy is away.
        self._control = self._listen(0, self._switch)
        self.control = f"http://127.0.0.1:{self._control.server_port}/"
        self.start()
        self.uri = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.set()
        self.stop()
        self._control.shutdown()
        self._control.server_close()

    def start(self) -> None:
        """Listen, for the first time or again."""
        if self._listener is None:
            self._listener = self._listen(self._port, self._hand_on)
            self._port = self._listener.server_port

    def stop(self) -> None:
        """Refuse connections from now on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.server_close()

    def _listen(self, port: int, answer: Callable[[BaseHTTPRequestHandler], None]) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _switch(self, request: BaseHTTPRequestHandler) -> None:
        self._switches[request.path.strip("/")]()
        _reply(request, 200, b"")

    def _hand_on(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self._count += 1
            fault = self.fail(self._count, request.path)
        threading.Event().wait(self.delay)
        self._open.wait()
        status, content = (500, b"made to fail") if fault == "before" else self._ask(request, body)
        if fault == "after":
            status, content = 500, b"the answer is lost"
        _reply(request, status, content)

    def _ask(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.server.uri.removeprefix("http://"), timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        try:
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 502, b"nobody is there"
        finally:
            connection.close()


def _reply(request: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
    try:
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
    except OSError:
        pass  # who asked is gone


class Switch(TrainerCallback):
    """Worker: asks for switches at steps, and for ``at_end`` when the training is over."""

    def __init__(self, control: str, at: dict[int, str], at_end: str | None = None) -> None:
        self._control, self._at, self._at_end = control, at, at_end

    def _ask(self, name: str | None) -> None:
        if name is not None:
            urllib.request.urlopen(self._control + name, timeout=120).close()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ask(self._at.pop(state.global_step, None))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ask(self._at_end)
