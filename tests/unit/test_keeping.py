"""Where checkpoints go and which stay: from transformers' arguments and Ray Train's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs as filesystems
from ray.train import CheckpointConfig, FailureConfig, RunConfig
from transformers import TrainingArguments

from raytrainer.job import ray_run
from raytrainer.keeping import Keep, checkpoint_store, has_storage, keep, run_folder

OUT = "/data/out"


def arguments(**values: Any) -> TrainingArguments:
    return TrainingArguments("unused", use_cpu=True, **values)


def ray_keeps(*args: Any, **kwargs: Any) -> RunConfig:
    return RunConfig(checkpoint_config=CheckpointConfig(*args, **kwargs))


@pytest.mark.parametrize(
    ("run", "folder", "checkpoints"),
    [
        (None, OUT, OUT),
        (RunConfig(), OUT, OUT),
        (RunConfig(name="dates"), OUT, OUT),
        (ray_keeps(2), OUT, OUT),
        (RunConfig(name="dates", storage_path="/nfs/runs"), "/nfs/runs/dates", "/nfs/runs/dates/checkpoints"),
        (RunConfig(name="dates", storage_path="/nfs/runs/"), "/nfs/runs/dates", "/nfs/runs/dates/checkpoints"),
        (RunConfig(name="dates", storage_path="s3://b/p"), "s3://b/p/dates", "s3://b/p/dates/checkpoints"),
        (
            RunConfig(name="dates", storage_path="s3://b/p?endpoint_override=x"),
            "s3://b/p/dates?endpoint_override=x",
            "s3://b/p/dates/checkpoints?endpoint_override=x",
        ),
    ],
)
def test_the_folder_is_the_storages_where_there_is_one(run: RunConfig | None, folder: str, checkpoints: str) -> None:
    assert run_folder(run, OUT).path == folder
    assert checkpoint_store(run, OUT).path == checkpoints
    assert has_storage(run) is (folder != OUT)


@pytest.mark.parametrize("storage_path", ["runs", "~/runs"])
def test_a_storage_path_is_meant_where_the_driver_is(
    storage_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = RunConfig(name="dates", storage_path=storage_path)
    assert run_folder(run, OUT).path == f"{tmp_path}/runs/dates"


def test_a_file_system_of_the_users_own_is_used(tmp_path: Path) -> None:
    system = filesystems.SubTreeFileSystem(str(tmp_path), filesystems.LocalFileSystem())
    run = RunConfig(name="dates", storage_path="bucket/runs", storage_filesystem=system)
    run_folder(run, OUT).write("run.json", b"{}")
    checkpoint_store(run, OUT).write("checkpoint-5/manifest.json", b"{}")
    assert (tmp_path / "bucket/runs/dates/run.json").is_file()
    assert (tmp_path / "bucket/runs/dates/checkpoints/checkpoint-5/manifest.json").is_file()


def test_ray_train_writes_nothing_into_the_home_folder() -> None:
    asked = RunConfig(name="dates", failure_config=FailureConfig(max_failures=3))
    run = ray_run(asked, "/data/out/ray")
    assert (run.storage_path, run.name, run.failure_config) == ("/data/out/ray", "dates", asked.failure_config)
    assert ray_run(None, "/data/out/ray").storage_path == "/data/out/ray"
    chosen: Any = RunConfig(storage_path="/nfs/runs")
    assert ray_run(chosen, "/data/out/ray") is chosen


def test_a_run_without_a_name_has_a_folder_of_its_own() -> None:
    run = RunConfig(storage_path="/nfs/runs")
    assert run_folder(run, OUT).path == f"/nfs/runs/{run.name}"
    assert run.name


BEST = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}


@pytest.mark.parametrize(
    ("values", "run", "expected"),
    [
        ({}, None, Keep()),
        ({"save_total_limit": 0}, None, Keep()),
        ({"save_total_limit": 3}, None, Keep(3)),
        ({"save_total_limit": 3}, RunConfig(), Keep(3)),
        ({"metric_for_best_model": "f1"}, None, Keep(None, 1, "eval_f1", True)),
        ({"metric_for_best_model": "eval_f1"}, None, Keep(None, 1, "eval_f1", True)),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, None, Keep(None, 1, "eval_f1", False)),
        ({"save_total_limit": 2, **BEST}, None, Keep(2, 1, "eval_loss", False)),
        ({}, ray_keeps(), Keep()),
        ({}, ray_keeps(2), Keep(2)),
        ({"save_total_limit": 3}, ray_keeps(2), Keep(2)),
        ({"save_total_limit": 1}, ray_keeps(2), Keep(1)),
        ({"save_total_limit": 5, **BEST}, ray_keeps(2), Keep(2, 1, "eval_loss", False)),
        ({}, ray_keeps(2, "eval_f1"), Keep(3, 2, "eval_f1", True)),
        ({}, ray_keeps(2, "eval_loss", "min"), Keep(3, 2, "eval_loss", False)),
        ({"save_total_limit": 2}, ray_keeps(3, "eval_f1"), Keep(5, 3, "eval_f1", True)),
        # Without a number Ray Train keeps all of them, and the score decides nothing.
        ({"save_total_limit": 2}, ray_keeps(None, "eval_f1"), Keep(2)),
    ],
)
def test_which_stay(values: dict[str, Any], run: RunConfig | None, expected: Keep) -> None:
    assert keep(arguments(**values), run) == expected
