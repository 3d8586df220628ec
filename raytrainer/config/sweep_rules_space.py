"""Rules about how a search space is searched."""

from __future__ import annotations

from collections.abc import Iterator

from raytrainer.config.schema import TASKS
from raytrainer.config.sweep_file import SEARCHES
from raytrainer.config.sweep_rules import chosen
from raytrainer.config.sweep_space import SearchSpace, needs
from raytrainer.config.view import Finding, Rule, View
from raytrainer.config.wording import nearest


def of_space(space: SearchSpace, complete: bool) -> list[Rule]:
    """Return the rules about how a space is searched.

    Args:
        space: the space.
        complete: whether all keys of the file are in it.
    """
    rules = _Rules(space, complete)
    return [rules.grid, rules.samples, rules.nothing, rules.points, rules.seeds, rules.used]


class _Rules:
    """What the rules know beside the view."""

    def __init__(self, space: SearchSpace, complete: bool) -> None:
        self._space, self._complete = space, complete
        self._sampled = {one.key: one for one in space.parameters}
        self._grids = [one.key for one in space.parameters if one.kind == "grid"]

    def grid(self, view: View) -> Iterator[Finding]:
        """A grid is tried point by point."""
        search = chosen(view, "search", "random")
        if self._grids and search in SEARCHES and search not in ("random", "grid"):
            reason = f"search: {search} chooses its points itself"
            yield ("search_space", self._grids[0], "grid"), reason, "choice, or search: random or grid"

    def samples(self, view: View) -> Iterator[Finding]:
        """Somebody says how many trials there are."""
        search = chosen(view, "search", "random")
        budget = view("tune", "budget") or {}
        if view("tune", "num_samples") == -1 and not any(value is not None for value in budget.values()):
            fix = "a number of trials; or budget: {time: 30m}, for example, beside it"
            yield ("tune", "num_samples"), "nothing would end the sweep", fix
        elif not view.has("tune", "num_samples") and self._complete and not self._grids and search != "grid":
            fix = "num_samples: 20, for example; -1 for as many as the budget allows"
            yield ("tune", "num_samples"), "nothing says how many trials there are", fix

    def nothing(self, view: View) -> Iterator[Finding]:
        """Something is sampled."""
        if self._complete and not self._sampled:
            fix = "a key with values beside it: training.learning_rate: {loguniform: [1e-5, 1e-3]}"
            yield ("search_space",), "nothing in it is sampled", fix

    def points(self, view: View) -> Iterator[Finding]:
        """A configuration to try first is one of the space."""
        for number, point in enumerate(view("tune", "points") or []):
            for key, value in point.items():
                if key not in self._sampled and self._complete:
                    reason = "it is computed" if view.has("search_space", key) else "it is not in the search space"
                    fix = nearest(key, list(self._sampled)) or f"one of {', '.join(self._sampled)}"
                    yield ("tune", "points", number, key), reason, fix
                elif key in self._sampled and not self._sampled[key].normal and not self._sampled[key].takes(value):
                    one = self._sampled[key]
                    low, high = one.ends
                    fix = f"one of {list(one.values)}" if one.values else f"a number of {low} to {high}"
                    yield ("tune", "points", number, key), f"search_space.{key} has no such value", fix

    def seeds(self, view: View) -> Iterator[Finding]:
        """Repeats differ in their seed alone."""
        if (view("tune", "repeats") or 1) > 1 and "training.seed" in self._sampled:
            reason = "search_space.training.seed is given, too, and repeats have seeds of their own"
            yield ("tune", "repeats"), reason, "one of the two"

    def used(self, view: View) -> Iterator[Finding]:
        """A parameter changes something."""
        asked = {name for one in self._space.entries for name in needs(one)}
        unused = [one.key for one in self._space.entries if one.key.startswith("params.") and one.key not in asked]
        if unused and self._complete and view("task") in TASKS and not view.has("trainer"):
            reason = "nothing uses it: a built-in task has no parameters but its settings"
            yield ("search_space", unused[0]), reason, "a setting, or an expr that names it; or trainer: in the base"
