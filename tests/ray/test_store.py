"""What is kept in a run's storage, which of it is the best, and what a run refuses to go on from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.train import ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError
from tests.ray.faults import Kills, Point, Trained, faulty_trainer
from tests.ray.recipes import COMMON, classify_words, vowels
from tests.ray.s3 import S3Server

pytestmark = pytest.mark.ray

BEST = {
    "eval_steps": 3,
    "save_steps": 3,
    "load_best_model_at_end": True,
    "metric_for_best_model": "accuracy",
    "save_total_limit": 2,
}


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def test_newest_and_best_stay_and_the_best_is_loaded_whatever_the_storage_and_who_died(
    s3: S3Server, tmp_path: Path, ray_cluster: None
) -> None:
    here = faulty_trainer(tmp_path / "here", [], arguments=BEST)
    here.train()
    best = here.state.best_global_step
    assert best < 12, "the best one is neither the newest nor the one before"
    assert here.state.best_model_checkpoint == str(tmp_path / "here" / f"checkpoint-{best}")
    assert Store(str(tmp_path / "here")).steps() == [best, 14]

    storage, kills = s3.bucket("best"), Kills(tmp_path, Point(10, 0, "step begin"))
    there = faulty_trainer(tmp_path / "there", [kills], failures=1, storage=storage, arguments=BEST)
    there.train()
    assert kills.has_killed()
    Trained.of(there).assert_equal(Trained.of(here))
    store = Store(storage.replace("/runs", "/runs/run/checkpoints"))
    assert there.state.best_model_checkpoint == store.address(best)
    assert [manifest.step for manifest in store.manifests()] == store.steps() == [best, 14]
    # On this machine nothing is left of what went up or came down.
    assert [path.name for path in (tmp_path / "there").iterdir()] == []


def go_on(folder: Path, arguments: dict[str, Any] | None = None, allow_changes: bool = False, **parts: Any) -> Any:
    trainer: Any = RayTrainer(
        args=RayTrainingArguments(folder, **{**COMMON, "save_strategy": "steps", "save_steps": 5, **(arguments or {})}),
        scaling_config=ScalingConfig(num_workers=1),
        allow_changes=allow_changes,
        **{**classify_words(), **parts},
    )
    return trainer


def test_another_run_is_not_gone_on_with_unless_that_is_wanted(
    tmp_path: Path, ray_cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    go_on(tmp_path).train()
    half = str(tmp_path / "checkpoint-5")

    with pytest.raises(ArgumentsError) as caught:
        go_on(tmp_path, {"seed": 8}, train_dataset=vowels(64, 99)).train(resume_from_checkpoint=half)
    assert [problem.setting for problem in caught.value.problems] == ["data, rows", "order, seed"]
    assert all("allow_changes=True" in problem.fix for problem in caught.value.problems)

    other = go_on(tmp_path, {"learning_rate": 1e-4}, allow_changes=True, train_dataset=vowels(64, 99))
    assert other.train(resume_from_checkpoint=half).global_step == 10
    printed = capfd.readouterr().err
    assert "changed since" in printed and "learning_rate: 0.005 before, 0.0001 now (without effect" in printed
