"""One run of an MLflow store, held by its id, from the driver; the fluent API's global state is left alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from raytrainer.tracking_target import masked

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SILENCE = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
ERROR_TAG = "raytrainer.error"


class Point(NamedTuple):
    """A metric's value at a step, at a time in milliseconds since the Unix epoch."""

    name: str
    value: float
    time: int
    step: int


class TrackedRun:
    """An open run; every method is one or a few requests, and raises what MLflow raises.

    Args:
        client: a client of the store.
        run: the run.
        uri: the store.
    """

    def __init__(self, client: MlflowClient, run: Run, uri: str) -> None:
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.param_names = frozenset(run.data.params)
        self.max_param_length: int = MAX_PARAM_VAL_LENGTH
        self._client, self._uri = client, uri

    def reach(self) -> None:
        """Raise at once if nobody answers at the store's address."""
        reach(self._uri)

    def log_metrics(self, points: Sequence[Point]) -> None:
        """Write up to 1000 points in one request; a point that is there already is not written twice."""
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        self._client.log_batch(self.run_id, metrics=metrics)

    def log_params(self, params: Sequence[tuple[str, str]]) -> None:
        """Write up to 100 parameters in one request."""
        from mlflow.entities import Param

        self._client.log_batch(self.run_id, params=[Param(name, value) for name, value in params])

    def log_text(self, name: str, text: str) -> None:
        """Keep a text as an artifact."""
        self._client.log_text(self.run_id, text, name)

    def end(self, status: str, error: str | None) -> None:
        """Set the end state, with the error as a tag."""
        from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

        if error:
            self._client.set_tag(self.run_id, ERROR_TAG, masked(error)[-MAX_TAG_VAL_LENGTH:])
        # MLflow prints the run's address when a run ends, with its password; it has no other switch for that.
        before = os.environ.get(_SILENCE)
        os.environ[_SILENCE] = "true"
        try:
            self._client.set_terminated(self.run_id, status)
        finally:
            del os.environ[_SILENCE]
            os.environ.update({} if before is None else {_SILENCE: before})


def reach(uri: str, timeout: float = 5.0) -> None:
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

        creds = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        answer = http_request(  # type: ignore[no-untyped-call]  # mlflow's own, for its credentials, TLS and proxies
            creds, "/health", "GET", max_retries=0, timeout=timeout, raise_on_status=False
        )
        if answer.status_code in {502, 503, 504}:
            raise ConnectionError(f"the gateway answers {answer.status_code}: the MLflow server behind it is away")
    elif scheme in _DATABASE_PORTS and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or _DATABASE_PORTS[scheme]), timeout).close()
