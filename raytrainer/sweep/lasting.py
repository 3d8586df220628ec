"""Driver: a scheduler whose state outlives its process, and whose decisions follow from the sweep's seed."""

from __future__ import annotations

import io
import pickle
from typing import Any

from ray import cloudpickle
from ray.train._internal.session import _FutureTrainingResult
from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler

from raytrainer.sweep.chance import Chance


class Lasting(TrialScheduler):
    """Driver: one of Ray's schedulers, with what Ray leaves out.

    Ray's snapshot of an experiment has the trials and the search algorithm, and nothing of the scheduler; trials that
    it restores, finished ones too, are added again, and a trial that is tried again after a failure is added twice.

    Args:
        base: the scheduler that decides.
        seed: of what it leaves to chance.
    """

    def __init__(self, base: TrialScheduler, seed: int) -> None:
        self.base = base
        self._chance = Chance(seed)
        self._added: set[str] = set()
        self._alive: dict[str, Any] = {}
        self._places: dict[str, int] = {}
        self._stopping: set[str] = set()
        self._asleep: bytes | None = None

    @property
    def metric(self) -> Any:
        return self.base.metric

    @property
    def supports_buffered_results(self) -> bool:
        return bool(self.base.supports_buffered_results)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return metric is None and mode is None

    def state(self) -> bytes:
        """Return everything that further decisions depend on; trials are in it by their ids."""
        if self._asleep is not None:
            return self._asleep
        kept = {name: value for name, value in vars(self.base).items() if not callable(value)}
        paused = {id for id, trial in self._alive.items() if trial.status == Trial.PAUSED}
        own = {"chance": self._chance, "added": self._added, "alive": self._alive, "stopping": self._stopping}
        return _dumped({"base": kept, "paused": paused, **own})

    def restore_state(self, state: bytes) -> None:
        """Take up a state that ``state`` returned, as soon as the trials are here.

        Args:
            state: of a scheduler that was built from the same settings.
        """
        self._asleep = state

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if self._asleep is None and not trial.is_finished():
            self._add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._awake(tune_controller)
        self._alive.pop(trial.trial_id, None)
        if isinstance(self.base, HyperBandScheduler):
            self._added.discard(trial.trial_id)  # it leaves its bracket: a trial that is tried again needs another one
        with self._chance.drawing():
            self.base.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._awake(tune_controller)
        if trial.trial_id in self._stopping:
            return str(TrialScheduler.STOP)  # the driver died before it was stopped; the base knows it no longer
        with self._chance.drawing():
            decision = str(self.base.on_trial_result(tune_controller, trial, result))
        if decision == TrialScheduler.STOP:
            self._stopping.add(trial.trial_id)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._awake(tune_controller)
        self._stopping.discard(trial.trial_id)
        self._alive.pop(trial.trial_id, None)
        with self._chance.drawing():
            self.base.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._awake(tune_controller)
        self._alive.pop(trial.trial_id, None)
        with self._chance.drawing():
            self.base.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any, **kwargs: Any) -> Trial | None:
        self._awake(tune_controller)
        with self._chance.drawing():
            alive = sorted(self._alive.values(), key=lambda trial: self._places[trial.trial_id])
            among: Any = _Alive(tune_controller, alive)
            return self.base.choose_trial_to_run(among, **kwargs)

    def debug_string(self) -> str:
        return str(self.base.debug_string())

    def _add(self, controller: Any, trial: Trial) -> None:
        self._alive[trial.trial_id] = trial
        self._places.setdefault(trial.trial_id, len(self._places))
        if trial.trial_id not in self._added:
            self._added.add(trial.trial_id)
            with self._chance.drawing():
                self.base.on_trial_add(controller, trial)

    def _awake(self, controller: Any) -> None:
        """Take up the restored state: now every trial that there is has been added."""
        if self._asleep is None:
            return
        state, self._asleep = self._asleep, None
        trials = {trial.trial_id: trial for trial in controller.get_trials()}
        kept = _loaded(state, trials)
        vars(self.base).update(kept["base"])
        self._chance, self._added, self._alive = kept["chance"], kept["added"], kept["alive"]
        self._stopping = kept["stopping"]
        for id, trial in list(self._alive.items()):
            if id not in trials:
                self._added.discard(id)  # younger than the snapshot of the trials: the search algorithm makes it again
            if trial.is_finished():
                self._leave(controller, trial)
        for id, trial in trials.items():
            if trial.is_finished():
                continue
            if id in self._added and id not in self._alive:
                # Ray's snapshot does not say of a trial that was stopped while it waited that it ended.
                controller._set_trial_status(trial, Trial.TERMINATED)
                continue
            self._add(controller, trial)
            if id in kept["paused"] and trial.status == Trial.PENDING:
                # Ray starts every unfinished trial again, those too that the scheduler lets wait.
                controller._set_trial_status(trial, Trial.PAUSED)

    def _leave(self, controller: Any, trial: Any) -> None:
        """Let a trial that ended while nobody looked be waited for no longer."""
        self._alive.pop(trial.trial_id, None)
        if isinstance(self.base, HyperBandScheduler):
            self.base.on_trial_remove(controller, trial)


class _Alive:
    """Ray Tune's controller, whose trials are those that have not ended.

    Ray's schedulers go through all of them for each choice, and there may be thousands.
    """

    def __init__(self, controller: Any, trials: list[Any]) -> None:
        self._controller, self._trials = controller, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)

    def get_trials(self) -> list[Any]:
        return self._trials


class _Gone:
    """A trial that the scheduler knows and the snapshot of the trials does not."""

    status = Trial.TERMINATED
    is_saving = False

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id

    def is_finished(self) -> bool:
        return True


class _Pickler(cloudpickle.CloudPickler):
    def persistent_id(self, value: Any) -> tuple[str, str] | None:
        if isinstance(value, Trial | _Gone):
            return "trial", value.trial_id
        # A checkpoint that is being saved has no path yet: a trial that waits for it is not cloned this time.
        return ("nothing", "") if isinstance(value, _FutureTrainingResult) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, trials: dict[str, Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._trials = trials

    def persistent_load(self, pid: Any) -> Any:
        kind, id = pid
        return self._trials.setdefault(id, _Gone(id)) if kind == "trial" else None


def _dumped(value: Any) -> bytes:
    file = io.BytesIO()
    pickler: Any = _Pickler
    pickler(file).dump(value)
    return file.getvalue()


def _loaded(data: bytes, trials: dict[str, Any]) -> Any:
    return _Unpickler(data, dict(trials)).load()
