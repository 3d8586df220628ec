"""Workers stay for the next call: it begins at once, and comes to what it would come to in processes of its own."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.collective import barrier, broadcast_from_rank_zero
from transformers import TrainerCallback

from raytrainer import RayTrainer, RayTrainingArguments, warm_up
from raytrainer.errors import ArgumentsError, ResourcesError
from raytrainer.staying import KEEP_VARIABLE, arrived, let_go
from tests.ray.recipes import COMMON, classify_words, without_times
from tests.waiting import until

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _nobody_here(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KEEP_VARIABLE, "600")
    let_go()
    yield
    let_go()


class Pids(TrainerCallback):
    """Remembers the process of rank 0, and what it finds there."""

    def __init__(self) -> None:
        self.pid = 0
        self.variable: str | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pid = os.getpid()
        self.variable = os.environ.get("OF_AN_EARLIER_CALL")
        os.environ["OF_AN_EARLIER_CALL"] = "left"


class Breaks(TrainerCallback):
    """Kills rank 1 once, or has it raise."""

    def __init__(self, mark: Path, raises: bool) -> None:
        self.mark, self.raises = mark, raises

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 6 and args.process_index == 1 and not self.mark.exists():
            self.mark.touch()
            if self.raises:
                raise RuntimeError("broken")
            os.kill(os.getpid(), signal.SIGKILL)


def trainer(folder: Path, *callbacks: TrainerCallback, workers: int = 2, failures: int = 0, **changes: Any) -> Any:
    run = RunConfig(storage_path=str(folder), name="run", failure_config=FailureConfig(max_failures=failures))
    return RayTrainer(
        args=RayTrainingArguments(folder / "out", **{**COMMON, **changes}),
        callbacks=list(callbacks),
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=run,
        **classify_words(),
    )


def trained(of: Any) -> tuple[Any, dict[str, bytes]]:
    of.train()
    weights = {name: tensor.numpy().tobytes() for name, tensor in of.model.state_dict().items()}
    return [without_times(entry) for entry in of.state.log_history], weights


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def workers_here() -> set[int]:
    actors = ray._private.state.actors().values()
    return {each["Pid"] for each in actors if each["ActorClassName"] == "RayTrainWorker" and each["State"] == "ALIVE"}


def configured(folder: Path) -> RunConfig:
    return RunConfig(storage_path=str(folder), name="run", failure_config=FailureConfig(max_failures=0))


def test_workers_that_were_warmed_up_train(tmp_path: Path) -> None:
    undisturbed = trained(trainer(tmp_path / "alone"))
    let_go()
    warm_up(ScalingConfig(num_workers=2), configured(tmp_path))
    arrived()
    until(lambda: len(workers_here()) == 2, "the workers")
    there, pids = workers_here(), Pids()
    warmed = trainer(tmp_path / "warmed", pids)
    assert trained(warmed) == undisturbed
    (callback,) = (each for each in warmed.callback_handler.callbacks if isinstance(each, Pids))
    assert callback.pid in there
    assert workers_here() == there


@pytest.mark.slow
def test_a_trainer_that_asks_for_others_than_were_warmed_up_gets_them(tmp_path: Path) -> None:
    warm_up(ScalingConfig(num_workers=2), configured(tmp_path))
    three = trainer(tmp_path, workers=3)
    three.evaluate()
    assert free_cpus() == 1.0


def test_what_keeps_workers_from_warming_up_the_call_says(tmp_path: Path) -> None:
    warm_up(ScalingConfig(num_workers=64), configured(tmp_path))
    with pytest.raises(ResourcesError, match="64"):
        trainer(tmp_path, workers=64).train()
    assert trainer(tmp_path).train().global_step == 10


def test_a_call_in_processes_that_were_used_comes_to_the_same(tmp_path: Path) -> None:
    """Dropout, so random numbers matter; another precision and another trainer came before."""
    alone, pids = Pids(), Pids()
    undisturbed = trained(trainer(tmp_path / "alone", alone))
    let_go()
    first = trainer(tmp_path / "first", pids, bf16=True, seed=3)
    first.train()
    first_pid = pids.pid
    first.evaluate()
    second = trainer(tmp_path / "second", pids)
    assert trained(second) == undisturbed
    (callback,) = (each for each in second.callback_handler.callbacks if isinstance(each, Pids))
    assert (callback.pid, callback.variable) == (first_pid, None)
    assert callback.pid != alone.pid
    assert second.precision.name == "fp32"


class Meets(TrainerCallback):
    """Uses Ray Train's own calls in which ranks wait for each other, as a user's code may."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        barrier()
        said = broadcast_from_rank_zero(f"of {args.process_index}")
        (self.folder / f"rank-{args.process_index}").write_text(said)
        ray.train.report({"met": 1})


def test_ranks_meet_in_no_process_of_its_own(tmp_path: Path) -> None:
    """Ray Train starts one with every group."""
    trainer(tmp_path, Meets(tmp_path), eval_strategy="steps", eval_steps=5).train()
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["of 0"] * 2
    alive = [each for each in ray._private.state.actors().values() if each["State"] == "ALIVE"]
    assert {each["ActorClassName"] for each in alive} == {"Relay", "GroupController", "RayTrainWorker"}


@pytest.mark.slow
def test_workers_are_let_go_when_nothing_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path).evaluate()
    assert free_cpus() == 2.0
    let_go()
    until(lambda: free_cpus() == 4.0, "the workers' places")
    monkeypatch.setenv(KEEP_VARIABLE, "0.5")
    trainer(tmp_path).evaluate()
    until(lambda: free_cpus() == 4.0, "the workers' places, by themselves")
    monkeypatch.setenv(KEEP_VARIABLE, "0")
    trainer(tmp_path).evaluate()
    # Sooner than the 30 s that they stay by default; the cluster's own view follows a moment later.
    until(lambda: free_cpus() == 4.0, "the workers' places, at the call's end", seconds=10)


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "inf"])
def test_how_long_workers_stay_is_a_number_of_seconds(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEEP_VARIABLE, said)
    with pytest.raises(ArgumentsError) as caught:
        trainer(tmp_path).evaluate()
    (problem,) = caught.value.problems
    assert (problem.setting, problem.value) == (KEEP_VARIABLE, said)
    assert "no number of seconds" in problem.reason and "30" in problem.fix
    assert workers_here() == set()


def test_a_call_that_needs_others_has_their_places(tmp_path: Path) -> None:
    """On four CPUs: three workers do not fit beside the two that stayed."""
    trainer(tmp_path).evaluate()
    three = trainer(tmp_path, workers=3)
    three.evaluate()
    assert free_cpus() == 1.0


@pytest.mark.slow
def test_a_module_that_was_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "changing_metrics.py"
    text = "def metrics(prediction):\n    return {'version': %d}\n"
    module.write_text(text % 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    changing = importlib.import_module("changing_metrics")
    try:
        one = trainer(tmp_path)
        one.compute_metrics = changing.metrics
        assert one.evaluate()["eval_version"] == 1.0
        module.write_text(text % 22)
        importlib.reload(changing)
        two = trainer(tmp_path)
        two.compute_metrics = changing.metrics
        assert two.evaluate()["eval_version"] == 22.0
    finally:
        del sys.modules["changing_metrics"]


def test_after_a_failure_others_take_their_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path).evaluate()
    broken = trainer(tmp_path, Breaks(tmp_path / "mark", raises=True))
    with pytest.raises(RuntimeError, match="broken"):
        broken.train()
    until(lambda: free_cpus() == 4.0, "the workers' places")
    assert broken.train().global_step == 10
    # Ray would say so of what the program asked the process that the failed workers talked to, which is gone with them.
    assert "will be retried" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_worker_that_is_killed_in_a_later_call_costs_no_more_than_in_the_first(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 3}
    undisturbed = trained(trainer(tmp_path / "alone", failures=1, **saving))
    killed = trainer(tmp_path / "killed", Breaks(tmp_path / "mark", raises=False), failures=1, **saving)
    assert trained(killed) == undisturbed
    assert (tmp_path / "mark").exists()
    # Their group had a failure: the next call has other workers.
    until(lambda: free_cpus() == 4.0, "the workers' places")


def test_workers_that_were_changed_for_good_do_not_stay(tmp_path: Path) -> None:
    trainer(tmp_path, full_determinism=True).evaluate()
    until(lambda: free_cpus() == 4.0, "the workers' places")


def test_what_is_left_of_a_call_is_freed(tmp_path: Path) -> None:
    """No tensor of the first call's model is in the process when the second begins."""
    counts: list[int] = []

    class Counts(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            import gc

            self.modules = sum(isinstance(each, torch.nn.Embedding) for each in gc.get_objects())

    for _ in range(3):
        counting = trainer(tmp_path, Counts())
        counting.train()
        (callback,) = (each for each in counting.callback_handler.callbacks if type(each).__name__ == "Counts")
        counts.append(callback.modules)
    assert counts[2] == counts[1]
