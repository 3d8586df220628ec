from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlflow
import mlflow.tracking.fluent
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from transformers import TrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.errors import UserError
from raytrainer.events import Began, Logged, Note, ReadData
from raytrainer.secrets import masked
from raytrainer.tracking import Tracker, open_tracker, tracking_target, ui_command
from raytrainer.tracking_reach import reach
from raytrainer.tracking_target import Target, absolute
from raytrainer.tracking_writer import Writer
from tests.waiting import until

pytestmark = pytest.mark.trains

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
MLFLOW_VARIABLES = ["TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID", "NESTED_RUN", "PARENT_RUN_ID", "TAGS"]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(path.parent)
        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def untouched_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_database: Path) -> Iterator[None]:
    """A working directory of the test's own, and an MLflow in which nobody has set anything."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    for name in MLFLOW_VARIABLES:
        monkeypatch.setenv(f"MLFLOW_{name}", "")  # recorded, so that what MLflow sets is undone
        monkeypatch.delenv(f"MLFLOW_{name}")
    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def arguments(report_to: str | list[str] = "mlflow", run_name: str | None = None) -> TrainingArguments:
    return TrainingArguments(output_dir="out", report_to=report_to, run_name=run_name, use_cpu=True)


def target_of(environ: dict[str, str] | None = None, **options: Any) -> Target:
    target = tracking_target(arguments(**options), os.environ if environ is None else environ, Path.cwd())
    assert target
    return target


def open_here(environ: dict[str, str] | None = None, **options: Any) -> Tracker:
    return open_tracker(target_of(environ, **options), Store(str(Path.cwd() / "run")))


def began(arguments: dict[str, Any] | None = None, model_config: dict[str, Any] | None = None) -> Began:
    return Began(0, 100, 2, 64, "fp32", arguments=arguments or {}, model_config=model_config or {})


def logged(step: int, metrics: dict[str, Any], epoch: float | None = None) -> Logged:
    return Logged(step, 100, epoch, metrics, time=1.7e9 + step)


def run_of(tracker: Tracker) -> Run:
    return MlflowClient(tracker.tracking_uri).get_run(str(tracker.run_id))


def history(tracker: Tracker, name: str) -> list[tuple[int, float, int]]:
    found = MlflowClient(tracker.tracking_uri).get_metric_history(str(tracker.run_id), name)
    return [(point.step, point.value, point.timestamp) for point in found]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("raytrainer")]


# Where a run goes.


@pytest.mark.parametrize(("report_to", "wanted"), [("none", False), ("tensorboard", False), ("mlflow", True)])
def test_only_who_reports_to_mlflow_is_recorded(report_to: str, wanted: bool, tmp_path: Path) -> None:
    assert (tracking_target(arguments(report_to), {}, tmp_path) is not None) == wanted


def test_all_integrations_include_mlflow(tmp_path: Path) -> None:
    assert tracking_target(arguments("all"), {}, tmp_path)


def test_the_variable_that_disables_mlflow_in_transformers_does_so_here(tmp_path: Path) -> None:
    assert tracking_target(arguments(), {"DISABLE_MLFLOW_INTEGRATION": "true"}, tmp_path) is None


def test_nothing_set_means_a_database_in_the_working_directory(tmp_path: Path) -> None:
    target = target_of({}, run_name="mine")
    assert target == Target(f"sqlite:///{tmp_path}/mlflow.db", experiment_name="Default", run_name="mine")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///runs/m.db", "sqlite:////srv/runs/m.db"),
        ("sqlite+pysqlite:///m.db?timeout=9", "sqlite+pysqlite:////srv/m.db?timeout=9"),
        ("sqlite:////data/m.db", "sqlite:////data/m.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("./mlruns", "/srv/mlruns"),
        ("file:mlruns", "file:///srv/mlruns"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("http://host:5000", "http://host:5000"),
        ("databricks", "databricks"),
    ],
)
def test_relative_paths_become_absolute(uri: str, expected: str) -> None:
    assert absolute(uri, Path("/srv")) == expected


def test_the_users_own_mlflow_calls_say_where(tmp_path: Path) -> None:
    Path("mlflow.db").rename("mine.db")
    mlflow.set_tracking_uri("sqlite:///mine.db")
    experiment = mlflow.set_experiment("theirs")
    target = target_of()
    assert target.tracking_uri == f"sqlite:///{tmp_path}/mine.db"
    assert (target.experiment_name, target.experiment_id) == (None, experiment.experiment_id)
    assert open_here().experiment_id == experiment.experiment_id


def test_the_variables_of_transformers_callback_are_honoured() -> None:
    target = target_of(
        {
            "MLFLOW_TRACKING_URI": "http://host:5000",
            "MLFLOW_EXPERIMENT_NAME": "dates",
            "MLFLOW_RUN_ID": "abc",
            "MLFLOW_TAGS": '{"team": "vision", "n": 3}',
            "MLFLOW_FLATTEN_PARAMS": "1",
            "MLFLOW_MAX_LOG_PARAMS": "20",
        }
    )
    assert target == Target(
        "http://host:5000",
        experiment_name="dates",
        run_id="abc",
        tags={"team": "vision", "n": "3"},
        flatten_params=True,
        max_params=20,
    )


def test_an_active_run_of_the_user_is_gone_on_with() -> None:
    with mlflow.start_run() as run:
        target = target_of()
    assert (target.run_id, target.ends, target.parent_run_id) == (run.info.run_id, False, None)


def test_an_active_run_is_looked_for_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    MlflowClient("mlruns").create_experiment("from long ago")  # MLflow then goes on with ./mlruns by default
    with mlflow.start_run() as run:
        tracker = open_here()
        tracker.close(None)
    assert (tracker.run_id, tracker.tracking_uri) == (run.info.run_id, f"file://{tmp_path}/mlruns")


def test_a_nested_run_is_made_under_the_active_one() -> None:
    with mlflow.start_run(experiment_id=mlflow.create_experiment("theirs")) as run:
        target = target_of({"MLFLOW_NESTED_RUN": "TRUE"})
    assert (target.run_id, target.ends, target.parent_run_id) == (None, True, run.info.run_id)
    child = run_of(open_tracker(target, Store(str(Path.cwd()))))
    assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert child.info.experiment_id == run.info.experiment_id


@pytest.mark.parametrize(("setting", "value"), [("MLFLOW_TAGS", "a=b"), ("MLFLOW_MAX_LOG_PARAMS", "many")])
def test_a_variable_that_cannot_be_read_is_named(setting: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        target_of({setting: value})
    assert (caught.value.problems[0].setting, caught.value.problems[0].value) == (setting, value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://anna:hunter2@db/mlflow",
        "cannot connect to https://anna:hun@ter2@host:5000/api: refused",
        "mysql://db/mlflow?user=anna&password=hunter2&x=1",
    ],
)
def test_credentials_are_masked(text: str) -> None:
    assert "ter2" not in masked(text)
    assert masked(text).count("***") == 1


def test_a_target_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(target_of({"MLFLOW_TRACKING_URI": "http://anna:hunter2@host"}))


def test_mlflow_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, raytrainer.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


# What cannot be opened.


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def http_server(status: int) -> Iterator[str]:
    """A server that gives everyone the same status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("uri", "reason", "fix"),
    [
        ("./mlruns", "maintenance mode", "sqlite:///mlflow.db"),
        ("foo://anna:hunter2@host", "unsupported URI", "an address such as"),
        ("http://anna:hunter2@127.0.0.1:{port}", "refused", "start the server"),
        ("postgresql://anna:hunter2@127.0.0.1:{port}/mlflow", "refused", "an address such as"),
        ("mysql:///mlflow?password=hunter2", "MySQLdb", "install the Python driver"),
        ("sqlite:////dev/null/mlflow.db", "/dev/null", "an address such as"),
        ("http://[half", "IPv6", "start the server"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_at_once(uri: str, reason: str, fix: str) -> None:
    began_at = time.monotonic()
    with pytest.raises(UserError) as caught:
        open_here({"MLFLOW_TRACKING_URI": uri.format(port=closed_port())})
    problem = caught.value.problems[0]
    assert problem.setting == "MLFLOW_TRACKING_URI"
    assert reason in problem.reason
    assert fix in problem.fix
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert time.monotonic() - began_at < 60  # MLflow alone would try for 4 minutes


@pytest.mark.parametrize(("status", "fix"), [(401, "MLFLOW_TRACKING_USERNAME"), (503, "start the server")])
def test_a_server_that_refuses_is_told_at_once(status: int, fix: str) -> None:
    with http_server(status) as uri, pytest.raises(UserError) as caught:
        open_here({"MLFLOW_TRACKING_URI": uri})
    assert str(status) in caught.value.problems[0].reason
    assert fix in caught.value.problems[0].fix


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(mlflow.MlflowException, match="timed out"):
        reach(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)


@pytest.mark.parametrize("setting", ["MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_PARENT_RUN_ID"])
def test_what_is_not_in_the_store_is_named(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        open_here({setting: "9999", "MLFLOW_NESTED_RUN": "1"})
    assert (caught.value.problems[0].setting, caught.value.problems[0].value) == (setting, "9999")


def test_what_was_deleted_is_named(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run("0").info.run_id
    client.delete_run(run)
    experiment = client.create_experiment("old")
    client.delete_experiment(experiment)
    deleted = {"MLFLOW_RUN_ID": run, "MLFLOW_EXPERIMENT_NAME": "old", "MLFLOW_EXPERIMENT_ID": experiment}
    for setting, value in deleted.items():
        with pytest.raises(UserError, match="deleted") as caught:
            open_here({setting: value})
        assert caught.value.problems[0].setting == setting


# What is recorded.


def test_metrics_by_step_are_what_was_handed_in() -> None:
    tracker = open_here(run_name="mine")
    for step in range(1, 31):
        tracker.handle(logged(step, {"loss": 1 / step, "steps": step}, epoch=step / 10))
    tracker.handle(logged(30, {"eval_loss": 0.25}))
    tracker.handle(Note("nothing for MLflow"))
    tracker.close(None)
    at = [int(1.7e12) + 1000 * step for step in range(31)]
    assert history(tracker, "loss") == [(step, 1 / step, at[step]) for step in range(1, 31)]
    assert history(tracker, "steps") == [(step, step, at[step]) for step in range(1, 31)]
    assert history(tracker, "epoch") == [(step, step / 10, at[step]) for step in range(1, 31)]
    assert history(tracker, "eval_loss") == [(30, 0.25, at[30])]
    assert run_of(tracker).info.run_name == "mine"


def test_what_is_no_number_is_left_out_and_what_is_not_finite_is_not() -> None:
    tracker = open_here()
    tracker.handle(logged(1, {"note": "text", "loss": math.nan, "grad_norm": math.inf, "f1 (macro)": 0.5}))
    tracker.close(None)
    assert run_of(tracker).data.metrics.keys() == {"loss", "grad_norm", "f1 _macro_"}
    assert math.isnan(history(tracker, "loss")[0][1])


def test_one_name_that_mlflow_refuses_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    tracker = open_here()
    tracker.handle(began({"../up": 1, "learning_rate": 0.1}))
    tracker.handle(logged(1, {"a//b": 1.0, "loss": 0.5}))
    tracker.close(None)
    assert run_of(tracker).data.metrics == {"loss": 0.5}
    assert run_of(tracker).data.params == {"learning_rate": "0.1"}
    assert "2 refused entries" in " ".join(warnings_in(caplog))


def test_parameters_are_the_arguments_and_the_model_configuration() -> None:
    tracker = open_here()
    settings = {f"setting_{number}": number for number in range(150)}
    config = {"d_model": 64, "dropout": 0.5, "labels": {"0": "no"}}
    tracker.handle(began({**settings, "dropout": None}, config))
    tracker.close(None)
    expected = {**config, **settings, "dropout": None}
    assert run_of(tracker).data.params == {name: str(value) for name, value in expected.items()}


def test_nested_parameters_are_flattened_and_counted_on_request() -> None:
    tracker = open_here({"MLFLOW_FLATTEN_PARAMS": "TRUE", "MLFLOW_MAX_LOG_PARAMS": "3"})
    tracker.handle(began({"lr": 0.1, "later": 1}, {"labels": {"0": "no", "1": {}}}))
    tracker.close(None)
    assert run_of(tracker).data.params == {"labels.0": "no", "labels.1": "{}", "lr": "0.1"}


def test_a_long_parameter_is_cut_and_kept_whole_beside_it() -> None:
    tracker = open_here()
    tracker.handle(began({"lr": 0.1}, {"labels": "x" * 7000}))
    tracker.close(None)
    assert run_of(tracker).data.params == {"lr": "0.1", "labels": "x" * 5997 + "..."}
    whole = mlflow.artifacts.load_dict(f"{run_of(tracker).info.artifact_uri}/params.json")
    assert whole == {"lr": 0.1, "labels": "x" * 7000}


def test_short_parameters_need_no_artifact() -> None:
    tracker = open_here()
    tracker.handle(began({"lr": 0.1}))
    tracker.close(None)
    assert MlflowClient(tracker.tracking_uri).list_artifacts(tracker.run_id) == []


def test_the_data_of_many_files_is_an_input() -> None:
    tracker = open_here()
    place = "s3://b\u00fccket/" * 5000
    data = [ReadData("training", "train.csv" * 100, "abc", 10, place)]
    tracker.handle(dataclasses.replace(began(), data=data))
    tracker.close(None)
    (found,) = run_of(tracker).inputs.dataset_inputs
    assert found.dataset.name.startswith("train.csv") and len(found.dataset.name) == 500
    assert place.startswith(json.loads(found.dataset.source)["uri"])


def test_a_long_tag_does_not_cost_the_run() -> None:
    tracker = open_here({"MLFLOW_TAGS": json.dumps({"team": "x" * 9000})})
    assert run_of(tracker).data.tags["team"] == "x" * 8000
    again = open_here({"MLFLOW_RUN_ID": str(tracker.run_id), "MLFLOW_TAGS": json.dumps({"team": "y" * 9000})})
    assert run_of(again).data.tags["team"] == "y" * 8000


def test_a_run_that_goes_on_keeps_its_parameters(caplog: pytest.LogCaptureFixture) -> None:
    first = open_here()
    first.handle(began({"lr": 0.1}))
    first.handle(began({"lr": 0.2}))  # the workers were started again
    first.close(ValueError("boom"))
    second = open_here({"MLFLOW_RUN_ID": str(first.run_id), "MLFLOW_TAGS": '{"part": 2}'})
    assert run_of(second).info.status == "RUNNING"
    second.handle(began({"lr": 0.3, "seed": 1}))
    second.close(None)
    run = run_of(second)
    assert (second.run_id, run.data.params) == (first.run_id, {"lr": "0.1", "seed": "1"})
    assert (run.info.status, run.data.tags["part"]) == ("FINISHED", "2")
    assert "raytrainer.error" not in run.data.tags
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(
    ("error", "status", "tag"),
    [
        (None, "FINISHED", None),
        (KeyboardInterrupt(), "KILLED", None),
        (ValueError("no http://anna:hunter2@host"), "FAILED", "ValueError: no http://***@host"),
        (SystemExit(3), "FAILED", "SystemExit: 3"),
    ],
)
def test_the_end_state_says_how_it_ended(
    error: BaseException | None, status: str, tag: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = open_here()
    assert run_of(tracker).info.status == "RUNNING"
    tracker.close(error)
    tracker.close(None if error else ValueError("a second close"))
    run = run_of(tracker)
    assert (run.info.status, run.data.tags.get("raytrainer.error")) == (status, tag)
    assert run.info.end_time
    assert warnings_in(caplog) == []


def test_the_users_own_run_is_logged_to_and_left_running() -> None:
    with mlflow.start_run() as run:
        tracker = open_here()
        tracker.handle(logged(1, {"loss": 0.5}))
        tracker.close(ValueError("boom"))
        assert run_of(tracker).info.status == "RUNNING"
        mlflow.log_metric("after", 1.0)
    assert tracker.run_id == run.info.run_id
    assert run_of(tracker).data.metrics == {"loss": 0.5, "after": 1.0}
    assert run_of(tracker).info.status == "FINISHED"


def test_two_trainings_are_two_runs_and_the_fluent_api_knows_of_neither() -> None:
    trackers = [open_here(), open_here()]
    for number, tracker in enumerate(trackers):
        tracker.handle(logged(1, {"loss": number}))
        tracker.close(None)
    assert [history(tracker, "loss")[0][1] for tracker in trackers] == [0, 1]
    assert mlflow.active_run() is None
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_run_is_tagged_as_mlflow_itself_does() -> None:
    tags = run_of(open_here({"MLFLOW_TAGS": '{"team": "vision"}'})).data.tags
    assert tags["team"] == "vision"
    assert {"mlflow.user", "mlflow.source.name"} <= tags.keys()


# How to look at it.


def test_a_database_is_looked_at_with_a_command(tmp_path: Path) -> None:
    Path("mlflow.db").rename("my runs.db")
    tracker = open_here({"MLFLOW_TRACKING_URI": "sqlite:///my runs.db"})
    assert ui_command(tracker) == f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/my runs.db'"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://anna:hunter2@host/base/", "https://host/base/#/experiments/{0.experiment_id}/runs/{0.run_id}"),
        ("postgresql://anna:hunter2@db/m", "mlflow ui --backend-store-uri 'postgresql://***@db/m'"),
        ("databricks", "run {0.run_id} of databricks"),
    ],
)
def test_a_server_is_looked_at_without_credentials(uri: str, shown: str) -> None:
    tracker = open_here()
    tracker.close(None)
    tracker.run.target = dataclasses.replace(tracker.run.target, tracking_uri=uri)
    assert ui_command(tracker) == shown.format(tracker)


# A server that goes away.


class Server:
    """A real ``mlflow server`` in a process group of its own; all that it keeps is in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._port = folder, closed_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination",
            str(self.folder),
        ]
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *address],
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._answers)

    def signal(self, number: int) -> None:
        assert self._process
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200)
        return False


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Have a server that keeps what it is told in a folder."""
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def test_a_server_may_stop_and_die_and_come_back(
    server: Server, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    target = target_of({"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": "dates"})
    folders = [Store(str(Path.cwd() / name)) for name in ("patient", "hasty")]
    patient, hasty = (open_tracker(target, folder, writer=Writer(server.uri, 0.2)) for folder in folders)
    patient.handle(began({"lr": 0.1, "labels": "x" * 7000}))
    for step in range(10):
        patient.handle(logged(step, {"loss": 1 / (step + 1), "nan": math.nan}))
    until(lambda: len(history(patient, "loss")) == 10)

    server.signal(signal.SIGSTOP)
    began_at = time.monotonic()
    for step in range(10, 500):
        patient.handle(logged(step, {"loss": 1 / (step + 1)}))
    assert time.monotonic() - began_at < 20  # a call that waited for the server would take longer
    server.signal(signal.SIGCONT)
    until(lambda: len(history(patient, "loss")) == 500)

    server.kill()
    for tracker in (patient, hasty):
        for step in range(500, 2000):
            tracker.handle(logged(step, {"loss": 1 / (step + 1)}))
    until(lambda: patient.trouble)
    hasty.close(None)
    hasty.drain()
    assert len(warnings_in(caplog)) == 1
    assert "1500 metric values, 1 end state" in warnings_in(caplog)[0]

    server.start()
    patient.close(None)
    patient.drain()
    assert "127.0.0.1" not in capsys.readouterr().out  # MLflow prints an address with its password
    run = run_of(patient)
    assert [(step, value) for step, value, _ in history(patient, "loss")] == [(n, 1 / (n + 1)) for n in range(2000)]
    assert (run.info.status, run.data.params["lr"]) == ("FINISHED", "0.1")
    whole = mlflow.artifacts.download_artifacts(
        run_id=patient.run_id, artifact_path="params.json", tracking_uri=server.uri, dst_path="whole"
    )
    assert json.loads(Path(whole).read_text())["lr"] == 0.1
    assert urllib.request.urlopen(ui_command(patient), timeout=30).status == 200
    assert not patient.trouble
