"""Whatever the MLflow server does, the training goes on, and in the end MLflow has what an undisturbed run has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from ray.train import RunConfig, ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.errors import UserError
from raytrainer.tracking import open_tracker
from raytrainer.tracking_target import Target
from tests.ray.faulty_server import Proxy, Switch
from tests.ray.recipes import COMMON, TIMES, classify_words
from tests.ray.s3 import S3Server
from tests.unit.test_tracking import Server, empty_database, serving

__all__ = ["empty_database"]
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

History = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server, kill=server.kill, restart=server.start) as proxy:
        yield proxy


def train(proxy: Proxy, folder: Path, name: str, at: dict[int, str], at_end: str | None, storage: str | None) -> str:
    """Train 40 steps, log each, and return the run's folder."""
    options = {**COMMON, "max_steps": 40, "eval_steps": 10, "report_to": "mlflow"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        patch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        trainer: Any = RayTrainer(
            args=RayTrainingArguments(str(folder / "out"), run_name=name, **options),
            callbacks=[Switch(proxy.control, at, at_end)],
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(name=name, storage_path=storage) if storage else None,
            **classify_words(),
        )
        trainer.train()
    return f"{storage.partition('?')[0]}/{name}?{storage.partition('?')[2]}" if storage else str(folder / "out")


def runs(server: Server, name: str) -> list[Run]:
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(name)
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)) if experiment else []


def history(server: Server, name: str) -> History:
    """Return all metrics of the experiment's one run but those of the clock; of what is measured, the steps."""
    (run,) = runs(server, name)
    assert run.info.status == "FINISHED"
    client = MlflowClient(server.uri)
    wanted = sorted(metric for metric in run.data.metrics if not metric.endswith(TIMES))
    found = {metric: client.get_metric_history(run.info.run_id, metric) for metric in wanted}
    return {
        metric: [(point.step, 0.0 if metric.startswith("raytrainer/") else point.value) for point in points]
        for metric, points in found.items()
    }


@pytest.fixture(scope="module")
def undisturbed(server: Server, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> History:
    with Proxy(server) as proxy:
        train(proxy, tmp_path_factory.mktemp("undisturbed"), "undisturbed", {}, None, None)
    found = history(server, "undisturbed")
    assert [step for step, _ in found["loss"]] == list(range(1, 41))
    assert [step for step, _ in found["eval_loss"]] == [10, 20, 30, 40]
    return found


@dataclass
class Fault:
    """What is wrong with the server, and what the worker switches when."""

    at: dict[int, str] = field(default_factory=dict)
    at_end: str | None = None
    first: Callable[[Proxy], None] = lambda proxy: None
    required: bool = True
    sync: bool = False


def _slow(proxy: Proxy) -> None:
    proxy.delay = 5.0


def _failing(proxy: Proxy) -> None:
    proxy.fail = lambda number, path: "" if number % 3 else ("before", "after")[number // 3 % 2]


FAULTS = {
    "away-at-the-start": Fault(first=Proxy.stop, at={20: "back"}, required=False),
    "away-from-10-to-30": Fault(at={10: "away", 30: "back"}),
    "away-at-the-end": Fault(at={20: "away"}, sync=True),
    "never-there": Fault(first=Proxy.stop, required=False, sync=True),
    # A training that waited for its server would never get to the step at which that goes on.
    "silent-till-the-end": Fault(at={10: "hang"}, at_end="go"),
    "every-third-a-500": Fault(first=_failing),
    "killed-and-restarted": Fault(at={10: "kill", 30: "restart"}),
    "five-seconds-late": Fault(first=_slow),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "five-seconds-late" else []) for name in FAULTS]
)
def test_what_mlflow_has_in_the_end(
    name: str, server: Server, proxy: Proxy, undisturbed: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]
    monkeypatch.setenv("RAYTRAINER_MLFLOW_REQUIRED", str(fault.required))
    fault.first(proxy)
    folder = train(proxy, tmp_path, name, dict(fault.at), fault.at_end, None)
    if fault.sync:
        assert main(["sync", folder]) == 2  # nobody is there yet
        proxy.start()
        assert main(["sync", folder]) == 0
    assert history(server, name) == undisturbed


def test_the_record_may_be_in_an_object_store(
    server: Server, proxy: Proxy, undisturbed: History, tmp_path: Path
) -> None:
    with S3Server() as s3:
        folder = train(proxy, tmp_path, "object-store", {10: "away"}, None, s3.bucket("runs"))
        proxy.start()
        assert main(["sync", folder]) == 0
        assert history(server, "object-store") == undisturbed


def test_a_run_is_made_once_though_the_answer_is_lost(server: Server, proxy: Proxy, tmp_path: Path) -> None:
    lost = iter(["after", "before", "after"])
    proxy.fail = lambda number, path: next(lost, "") if path.endswith("/runs/create") else ""
    for name, wait in (("made-now", True), ("made-later", False)):
        tracker = open_tracker(Target(proxy.uri, experiment_name=name), Store(str(tmp_path / name)), wait=wait)
        tracker.close(None)
        assert [run.info.run_id for run in runs(server, name)] == [tracker.run_id]
    assert next(lost, None) is None


def test_a_server_that_is_required_is_an_error_before_training(proxy: Proxy, tmp_path: Path) -> None:
    proxy.stop()
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        train(proxy, tmp_path, "required", {}, None, None)
    assert not os.path.exists(tmp_path / "out")
