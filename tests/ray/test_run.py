"""fit: what reaches the driver, when, and what it leaves behind."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train import RunConfig, ScalingConfig, UserCallback
from transformers import TrainerCallback

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.errors import PrecisionError
from raytrainer.events import Began, Event, Logged, Note, Phase, Saved
from raytrainer.listener import Listener
from raytrainer.relay import relay_here
from raytrainer.run import fit
from tests.ray.recipes import COMMON, classify_words
from tests.waiting import until

pytestmark = pytest.mark.ray
PHASES = ["controller", "workers", "imports", "process group", "imports", "trainer", "contract"]


class WaitsForTheDriver(TrainerCallback):
    """Holds step 4 until the driver has heard of step 3."""

    def __init__(self, heard: Path) -> None:
        self.heard = heard

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        deadline = time.monotonic() + 120
        while state.global_step == 3 and not self.heard.exists():
            assert time.monotonic() < deadline, "the driver was told nothing while training ran"
            time.sleep(0.01)


class NotesReports(UserCallback):
    """Ray Train's controller: writes down every report that all ranks made."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        with self.notes.open("a") as file:
            print([(m["step"], m.get("eval_loss") is not None) for m in metrics], file=file)


class Listens:
    def __init__(self, heard: Path) -> None:
        self.heard = heard
        self.events: list[Event] = []
        self.closed: list[BaseException | None] = []

    def handle(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Logged) and event.step == 3:
            self.heard.touch()

    def close(self, error: BaseException | None) -> None:
        self.closed.append(error)


@pytest.mark.timeout(120)
def test_a_call_ends_when_its_work_is_done(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "_WAIT_S", 3600.0)
    relay, heard = relay_here(), Listens(Path())
    with Listener(relay, [heard]) as listener:
        listener.say("the only thing to hear")
        until(lambda: bool(heard.events), "what was said")
    assert heard.events == [Note("the only thing to hear")]
    ray.kill(relay)


def test_every_log_reaches_the_driver_in_order_while_training_runs(tmp_path: Path, ray_cluster: None) -> None:
    reports: Any = NotesReports(tmp_path / "reports")
    trainer: Any = RayTrainer(
        args=RayTrainingArguments(tmp_path, **{**COMMON, "max_steps": 6, "save_strategy": "steps", "save_steps": 5}),
        callbacks=[WaitsForTheDriver(tmp_path / "heard")],
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path / "storage"), callbacks=[reports]),
        **classify_words(),
    )
    listens, interrupt, before = Listens(tmp_path / "heard"), signal.getsignal(signal.SIGINT), actors_alive()
    outcome = fit(replace(trainer._job("train", (), {}), sinks=[listens]))

    assert listens.closed == [None]
    logged = [event for event in listens.events if isinstance(event, Logged)]
    history = outcome.state["log_history"] if outcome.state else []
    assert [(event.step, event.metrics) for event in logged] == [
        (entry["step"], {name: value for name, value in entry.items() if name != "step"}) for entry in history
    ]
    assert all(event.samples_per_second for event in logged if "loss" in event.metrics)
    (began,) = [event for event in listens.events if isinstance(event, Began)]
    assert (began.max_steps, began.world_size, began.batch_size) == (6, 2, 8)
    assert began.arguments["learning_rate"] == COMMON["learning_rate"]
    assert [event.name for event in listens.events if isinstance(event, Phase)] == PHASES
    assert list(outcome.phases) == [*dict.fromkeys(PHASES), "total"]
    assert sum(outcome.phases[name] for name in dict.fromkeys(PHASES)) <= outcome.phases["total"]
    # Every evaluation (steps 4 and 6) and every save (5 and 6) is reported, by both ranks, once a step.
    expected = [[(step, evaluated)] * 2 for step, evaluated in ((4, True), (5, False), (6, True))]
    assert (tmp_path / "reports").read_text().splitlines() == [str(line) for line in expected]
    assert [event.step for event in listens.events if isinstance(event, Saved)] == [5, 6]
    # Nothing stays: no actor, no placement group, and Ctrl-C is the program's own again.
    assert signal.getsignal(signal.SIGINT) is interrupt
    until(lambda: actors_alive() <= before)
    until(lambda: not [g for g in ray.util.placement_group_table().values() if g["state"] == "CREATED"])


def actors_alive() -> set[str]:
    """Actors but Ray's own detached one, which coordinates autoscaling for the whole cluster."""
    states = ray._private.state.actors().values()
    return {actor["ActorID"] for actor in states if actor["State"] == "ALIVE" and not actor["IsDetached"]}


def test_a_precision_that_the_workers_lack_fails_before_the_first_step(tmp_path: Path, ray_cluster: None) -> None:
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, fp16=True, **COMMON),
        scaling_config=ScalingConfig(num_workers=1),
        **classify_words(),
    )
    with pytest.raises(PrecisionError) as caught:
        trainer.train()
    (problem,) = caught.value.problems
    assert (problem.setting, problem.value) == ("fp16", True)
    assert "rank 0" in problem.reason
