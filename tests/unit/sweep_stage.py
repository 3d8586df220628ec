"""A sweep without Ray: Ray's trials, and as much of its controller as schedulers use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from raytrainer.config.sweep import Tune
from raytrainer.sweep.lasting import Lasting
from raytrainer.sweep.schedulers import scheduler
from raytrainer.sweep.searchers import searcher
from raytrainer.sweep.space import Space
from raytrainer.sweep.suggesting import Suggesting

RATE, BATCH, DECAY, HEAD = (f"training.{name}" for name in ("learning_rate", "batch", "weight_decay", "head"))
WIDE: dict[str, dict[str, Any]] = {
    RATE: {"loguniform": [1e-4, 1e-1]},
    BATCH: {"choice": [8, 16, 32]},
    DECAY: {"uniform": [0.1, 1.0]},
    HEAD: {"randint": [1, 5]},
}
SPACE = Space.of(WIDE)
LONGEST = 16


def tune(**settings: Any) -> Tune:
    return Tune.model_validate({"metric": "eval_loss", "mode": "min", "num_samples": 8, **settings})


def loss(config: Mapping[str, Any], step: int) -> float:
    """A smooth thing to make small, of which a trial has less from step to step."""
    far = abs(config[DECAY] - 0.4) + abs(config[RATE] - 0.01) * 10 + config[BATCH] / 100 + config[HEAD] / 50
    return float(far + 1 / (1 + step))


def trial_of(id: str, config: Mapping[str, Any]) -> Trial:
    return Trial("trainable", config=dict(config), trial_id=id, experiment_tag=id, stub=True)


@dataclass
class Stage:
    """Stands in for Ray's controller; two trials run at a time, one evaluation after the other."""

    scheduler: Lasting
    search_alg: Any = None
    trials: list[Trial] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    story: list[tuple[Any, ...]] = field(default_factory=list)
    ends: Mapping[str, int] = field(default_factory=dict)
    dies_at_stop: bool = False

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.steps[trial.trial_id] = 0
        self.scheduler.on_trial_add(self, trial)

    def get_trials(self) -> list[Trial]:
        return self.trials

    def get_live_trials(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.is_finished()]

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        trial.set_status(Trial.PAUSED)

    def stop_trial(self, trial: Trial) -> None:
        if trial.is_finished():
            return
        if trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
        trial.set_status(Trial.TERMINATED)
        self.story.append((trial.trial_id, self.steps[trial.trial_id], "ended"))

    def _set_trial_status(self, trial: Trial, status: str) -> None:
        trial.set_status(status)

    def _schedule_trial_save(self, trial: Trial, result: Any = None) -> Any:
        return Checkpoint(f"/checkpoints/{trial.trial_id}/{self.steps[trial.trial_id]}")

    def run(self, rounds: int) -> None:
        """Let each running trial be evaluated so many times."""
        for _ in range(rounds):
            running = [trial for trial in self.trials if trial.status == Trial.RUNNING]
            while len(running) < 2 and (chosen := self.scheduler.choose_trial_to_run(self)) is not None:
                chosen.set_status(Trial.RUNNING)
                running.append(chosen)
            for trial in running:
                self._evaluated(trial)

    def _evaluated(self, trial: Trial) -> None:
        id, before = trial.trial_id, dict(trial.config)
        self.steps[id] += 1
        step = self.steps[id]
        result = {"eval_loss": loss(trial.config, step), "step": step, "training_iteration": step, "trial_id": id}
        decision = self.scheduler.on_trial_result(self, trial, result)
        trial.update_last_result(result)
        self.story.append((id, step, decision, dict(trial.config)))
        if decision == "STOP" and self.dies_at_stop:
            raise SystemExit
        if trial.config != before:
            self.steps[id] = max(self.steps.values())
        if decision == "STOP" or step >= self.ends.get(id, LONGEST):
            self.stop_trial(trial)
        elif decision == "PAUSE":
            trial.set_status(Trial.PAUSED)
            keep(trial, self._schedule_trial_save(trial))


def keep(trial: Trial, checkpoint: Checkpoint | None) -> None:
    """Give a trial its latest checkpoint."""
    manager = trial.run_metadata.checkpoint_manager
    manager._latest_checkpoint_result = None if checkpoint is None else _TrainingResult(checkpoint, trial.last_result)


def revived(scheduler: Lasting, state: bytes, trials: Sequence[Trial]) -> None:
    """Give a new scheduler the state of one that was built from the same settings, when all its trials are there."""
    scheduler.restore_state(state)
    scheduler._awake(Stage(scheduler, trials=list(trials)))


class Pauses:
    """A search algorithm as far as BOHB's scheduler calls it."""

    def __init__(self) -> None:
        self.searcher = self
        self.paused: set[str] = set()

    def on_pause(self, trial_id: str) -> None:
        self.paused.add(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        self.paused.discard(trial_id)


def staged(settings: Tune, configs: list[dict[str, Any]], space: Space = SPACE) -> Stage:
    """Return a sweep of these configs that has not begun."""
    stage = Stage(scheduler(settings, space, LONGEST), Pauses())
    for number, config in enumerate(configs, 1):
        stage.add(trial_of(f"t_{number:05d}", config))
    return stage


def drawn(number: int, space: Space = SPACE) -> list[dict[str, Any]]:
    """Return so many configs at random."""
    algorithm = search(tune(num_samples=number), space)
    suggestions = [algorithm.suggestions.next(f"t_{n}") for n in range(number)]
    return [dict(suggestion.values) for suggestion in suggestions if suggestion is not None]


def search(settings: Tune, space: Space = SPACE, base: Mapping[str, Any] | None = None, most: int = 0) -> Suggesting:
    algorithm, config = searcher(settings, space, base or {}, max_concurrent=most)
    assert config == {}
    return algorithm
