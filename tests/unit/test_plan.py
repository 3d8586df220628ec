"""What a config comes to, before anything is started."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ray.train.constants import DEFAULT_STORAGE_PATH
from ray.train.v2.api.config import ScalingConfig

from raytrainer import cluster
from raytrainer.config.schema import CONFIG
from raytrainer.config.section import Scaling
from raytrainer.errors import ArgumentsError
from raytrainer.launch.plan import plan
from raytrainer.launch.scaling import scaling_config, with_workers


def config(**sections: Any) -> Any:
    return CONFIG.validate_python({"name": "a", "trainer": "mine:build", **sections})


@pytest.mark.parametrize(
    ("asked", "workers"),
    [
        ({}, 8),  # one a GPU of the cluster
        ({"use_gpu": True}, 8),
        ({"use_gpu": True, "num_workers": 3}, 3),
        ({"num_workers": 3}, 3),
        ({"resources_per_worker": {"CPU": 2.0}}, 1),
        ({"num_workers": [2, 4]}, (2, 4)),
    ],
)
def test_workers(asked: dict[str, Any], workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "default_scaling", lambda: ScalingConfig(num_workers=8, use_gpu=True))
    section = Scaling(**asked)
    scaling = with_workers(scaling_config(section), section)
    assert scaling.num_workers == workers
    assert scaling.resources_per_worker == asked.get("resources_per_worker")


def test_what_ray_train_refuses_is_told() -> None:
    with pytest.raises(ArgumentsError, match="scaling"):
        scaling_config(Scaling(resources_per_worker={"GPU": 1.0}))


@pytest.mark.parametrize("storage", ["runs", DEFAULT_STORAGE_PATH, "s3://bucket/runs?region=eu"])
def test_the_runs_folder(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan(config(run={"storage_path": storage}))
    wanted = {"runs": f"{tmp_path}/runs/a", "s3://bucket/runs?region=eu": "s3://bucket/runs/a?region=eu"}
    assert planned.folder.path == wanted.get(storage, f"{storage}/a")


def test_where_the_run_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked = {"tracking_uri": "http://mlflow:5000", "experiment": "dates", "tags": {"team": "a"}}
    tracking = plan(config(mlflow=asked)).tracking
    assert tracking is not None
    assert (tracking.tracking_uri, tracking.experiment_name) == ("http://mlflow:5000", "dates")
    assert (tracking.run_name, tracking.tags) == ("a", {"team": "a"})
    assert plan(config(mlflow=None)).tracking is None


def test_arguments_that_do_not_fit_are_the_users_to_mend() -> None:
    with pytest.raises(ArgumentsError, match=r"training = .*lr_scheduler"):
        plan(config(training={"lr_scheduler_type": "no such"}))


def test_folders_in_object_stores_have_folders_of_their_own_on_a_machine() -> None:
    def here(storage: str) -> str:
        return str(plan(config(name="00001", run={"storage_path": storage})).arguments.output_dir)

    one, again, other = (here(f"s3://bucket/{name}?region=eu") for name in ("one", "one", "other"))
    assert one == again != other
    assert re.fullmatch(rf"{tempfile.gettempdir()}/raytrainer-{os.getuid()}/00001-[0-9a-f]{{16}}", one)


@pytest.mark.parametrize(
    ("training", "splits"),
    [
        ({"fsdp": "full_shard"}, "training.fsdp"),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "stage 3 of training.deepspeed"),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, None),
        ({}, None),
    ],
)
def test_an_adapter_needs_a_whole_model(training: dict[str, Any], splits: str | None) -> None:
    asked = {"name": "a", "task": "causal-lm", "data": {"train": "a.txt"}, "training": training}
    model = {"name": "some", "peft": {"r": 4}}
    refused = pytest.raises(ArgumentsError, match=f"model.peft = .*{splits} splits the model")
    with refused if splits else contextlib.nullcontext():
        plan(CONFIG.validate_python({**asked, "model": model}))
    plan(CONFIG.validate_python({**asked, "model": {"name": "some"}}))
