"""Whether anybody answers at a tracking URI, and how long MLflow's own client goes on trying."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

_lock = threading.Lock()
# What is asked for just now, by all threads, and what was there before.
_asked: list[dict[str, str]] = []
_before: dict[str, str | None] = {}


def reach(uri: str, timeout: float = 20.0) -> None:
    """Raise if nobody answers at the host in a tracking URI; a URI without a host passes.

    MLflow itself goes on trying for 4 minutes before it says so.

    Args:
        uri: the tracking URI.
        timeout: seconds.

    Raises:
        MlflowException: if an HTTP server does not answer.
        OSError: if a database server does not, or a gateway answers in the place of the server.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme in {"http", "https"}:
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        creds = get_default_host_creds(uri)  # type: ignore[no-untyped-call]  # mlflow's own
        answer = http_request(  # type: ignore[no-untyped-call]  # mlflow's own, for its credentials, TLS and proxies
            creds, "/health", "GET", max_retries=0, timeout=timeout, raise_on_status=False
        )
        if answer.status_code in {502, 503, 504}:
            raise ConnectionError(f"the gateway answers {answer.status_code}: the MLflow server behind it is away")
    elif scheme in _DATABASE_PORTS and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or _DATABASE_PORTS[scheme]), timeout).close()


def retries(number: int) -> contextlib.AbstractContextManager[None]:
    """Let MLflow repeat a request so often inside the block; its own 7 times take 4 minutes where nobody answers."""
    return variables({_RETRIES: str(number)})


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Set variables that MLflow reads at every call, in this process, inside the block; other threads see them too.

    Args:
        values: names to values.
    """
    with _lock:
        _asked.append(values)
        _before.update({name: os.environ.get(name) for name in values if name not in _before})
        _apply()
    try:
        yield
    finally:
        with _lock:
            # By identity: another thread may ask for the same.
            _asked[:] = [each for each in _asked if each is not values]
            _apply()


def _apply() -> None:
    merged = {name: value for values in _asked for name, value in values.items()}
    for name, before in list(_before.items()):
        value = merged.get(name, before)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
        if name not in merged:
            del _before[name]
