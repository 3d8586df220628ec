"""An S3 server in this process, in front of which requests can be made to fail or to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

Answer = Iterable[bytes]


class S3Server:
    """moto behind a real socket; what it stores outlives an outage.

    Args:
        before: called with method and path of every request; an error status that it returns is the answer.

    Attributes:
        port: where it listens, the same after an outage.
    """

    def __init__(self, before: Callable[[str, str], int | None] = lambda method, path: None) -> None:
        self.before = before
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, for the first time or again."""
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=_Silent)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join()

    def bucket(self, name: str) -> str:
        """Make an empty bucket and return the URI of a folder in it."""
        client: Any = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=name)
        return f"s3://{name}/runs?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Answer:
        status = self.before(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if status is None:
            answer: Answer = self._moto(environ, start_response)
            return answer
        get_input_stream(environ).read()
        start_response(f"{status} made to fail", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass
