"""Driver: suggestions as Ray Tune's trials, and what of them outlives the driver."""

from __future__ import annotations

import copy
import glob
import os
import pickle
import uuid
from typing import Any

from ray import cloudpickle
from ray.tune.experiment import Experiment, Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import BasicVariantGenerator

from raytrainer.sweep.lasting import Lasting
from raytrainer.sweep.suggestions import GROUP, ORIGIN, Suggestion, Suggestions

# Ray asks for 200 trials before the first one ends: to a model that is a random search.
_FEW = 8


class Suggesting(BasicVariantGenerator):
    """Driver: the search algorithm that ``ray.tune.run`` is given, whatever the algorithm.

    A subclass of Ray's own only for what Ray asks of the class: PBT refuses any other, and Ray's controller takes
    one trial at a time from any other, which HyperBand's and PBT's synchronous steps do not bear.

    Args:
        suggestions: what is tried.
        scheduler: its state is saved and restored with this.
        max_concurrent: how many trials there are at a time; 0 for as many as Ray starts, of which few have not been
            evaluated yet where the search algorithm learns.
        counts_paused: whether those count that wait for others; else it is how many there are that have not been
            evaluated yet.
    """

    CKPT_FILE_TMPL = "raytrainer-search-{}.pkl"

    def __init__(
        self,
        suggestions: Suggestions,
        scheduler: Lasting | None = None,
        max_concurrent: int = 0,
        counts_paused: bool = True,
    ) -> None:
        super().__init__()
        self.suggestions = suggestions
        self._scheduler = scheduler
        self.max_concurrent = max_concurrent
        self._counts_paused = counts_paused
        self._prefix = uuid.uuid4().hex[:5]
        self._number = 0
        self._spec: dict[str, Any] = {}
        self._live: set[str] = set()
        self._new: set[str] = set()
        self._given: dict[str, Suggestion] = {}

    @property
    def total_samples(self) -> int:
        return self.suggestions.limit

    @property
    def searcher(self) -> Suggesting:
        """What Ray's BOHB scheduler calls when it pauses a trial."""
        return self

    def suggestion(self, trial_id: str) -> Suggestion:
        """Return what a trial was given: its origin and its group."""
        return self._given[trial_id]

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return metric is None and mode is None

    def add_configurations(self, experiments: Any) -> None:
        (experiment,) = [experiments] if isinstance(experiments, Experiment) else experiments
        self._spec = experiment.spec

    def next_trial(self) -> Trial | None:
        if self.is_finished() or self._has_enough():
            return None
        number = self._number + 1
        trial_id = f"{self._prefix}_{number:05d}"
        suggestion = self.suggestions.next(trial_id)
        if suggestion is None:
            return None
        self._number = number
        self._live.add(trial_id)
        self._new.add(trial_id)
        self._given[trial_id] = suggestion
        beside = {ORIGIN: suggestion.origin, GROUP: suggestion.group}
        config = {**self._spec.get("config", {}), **copy.deepcopy(dict(suggestion.values)), **beside}
        spec = {**self._spec, "config": config}
        named: dict[str, Any] = {"trial_id": trial_id, "experiment_tag": str(number)}
        trial: Trial = _create_trial_from_spec(spec, _make_parser(), evaluated_params=dict(suggestion.values), **named)
        return trial

    def _has_enough(self) -> bool:
        """Tell whether another trial has to wait for those that there are."""
        if self.max_concurrent:
            return len(self._live if self._counts_paused else self._new) >= self.max_concurrent
        return self.suggestions.model.learns and len(self._new) >= _FEW

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._new.discard(trial_id)
        self.suggestions.result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._new.discard(trial_id)
        if trial_id in self._live:
            self._live.discard(trial_id)
            self.suggestions.complete(trial_id, result, error)

    def on_pause(self, trial_id: str) -> None:
        self.suggestions.model.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        self.suggestions.model.on_unpause(trial_id)

    def is_finished(self) -> bool:
        return self._finished or self.suggestions.finished()

    def get_state(self) -> dict[str, Any]:
        names = ("suggestions", "_prefix", "_number", "_spec", "_live", "_new", "_given")
        state = {name: vars(self)[name] for name in names}
        return {**state, "scheduler": None if self._scheduler is None else self._scheduler.state()}

    def set_state(self, state: dict[str, Any]) -> None:
        scheduler = state.pop("scheduler")
        limit = self.suggestions.limit
        vars(self).update(state)
        self.suggestions.go_on_to(limit)
        if self._scheduler is not None and scheduler is not None:
            self._scheduler.restore_state(scheduler)

    def save_to_dir(self, dirpath: str, session_str: str = "", **kwargs: Any) -> None:
        path = os.path.join(dirpath, self.CKPT_FILE_TMPL.format(session_str))
        with open(f"{path}.tmp", "wb") as file:
            cloudpickle.dump(self.get_state(), file)
        os.replace(f"{path}.tmp", path)

    def has_checkpoint(self, dirpath: str) -> bool:
        return bool(self._saved(dirpath))

    def restore_from_dir(self, dirpath: str) -> None:
        # By name, in which Ray puts the time: of copies it is the only one.
        with open(max(self._saved(dirpath)), "rb") as file:
            self.set_state(pickle.load(file))

    def _saved(self, dirpath: str) -> list[str]:
        return glob.glob(os.path.join(glob.escape(dirpath), self.CKPT_FILE_TMPL.format("*")))
