"""Whose checkpoints stay while a sweep runs, and when it has had enough."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrainer.sweep.budget import Budget
from raytrainer.sweep.standings import Standings, Stored


def test_a_last_evaluation_counts_where_the_last_counts() -> None:
    standings = Standings("min", "last", keep=1)
    assert not standings.counts(1, 0.1, last=False)
    assert standings.best() is None
    assert standings.counts(1, 0.5, last=True)
    assert not standings.counts(2, 0.6, last=True)
    assert standings.counts(3, 0.4, last=True)
    assert (standings.best(), standings.scores) == (3, {1: 0.5, 2: 0.6, 3: 0.4})


def test_every_better_evaluation_counts_where_the_best_counts() -> None:
    standings = Standings("max", "best", keep=1)
    assert standings.counts(1, 0.5, last=False)
    assert not standings.counts(1, 0.4, last=True)
    assert standings.counts(1, 0.6, last=False)
    assert standings.scores == {1: 0.6}


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_never_counts(score: float) -> None:
    standings = Standings("max", "best", keep=3)
    assert not standings.counts(1, score, last=True)
    assert standings.best() is None


def test_of_equals_the_one_with_the_smaller_number_is_better() -> None:
    """As in the table of results: the checkpoint that stays is the one that is exported."""
    standings = Standings("min", "last", keep=1)
    assert standings.counts(2, 0.5, last=True)
    assert not standings.counts(3, 0.5, last=True)
    assert standings.counts(1, 0.5, last=True)
    assert standings.best() == 1


def test_a_better_trial_takes_the_place_of_the_best_checkpoint() -> None:
    standings = Standings("min", "last", keep=1)
    standings.counts(1, 0.5, last=True)
    assert standings.stored(Stored(1, 10), best=True) == []
    assert standings.ended(1) == []
    standings.counts(2, 0.4, last=True)
    assert standings.stored(Stored(2, 10), best=True) == [Stored(1, 10)]
    assert standings.needed() == {Stored(2, 10)}
    assert standings.ended(2) == standings.over() == []


def test_a_trial_that_goes_on_keeps_its_two_newest() -> None:
    standings = Standings("min", "last", keep=1)
    assert standings.stored(Stored(1, 10), best=False) == []
    assert standings.stored(Stored(1, 20), best=False) == []
    assert standings.stored(Stored(1, 30), best=False) == [Stored(1, 10)]
    assert standings.over() == [Stored(1, 20), Stored(1, 30)]


@pytest.mark.parametrize("repeats", [1, 2])
def test_none_is_kept_where_none_is_asked_for(repeats: int) -> None:
    standings = Standings("min", "last", keep=0, repeats=repeats)
    assert not standings.counts(1, 0.5, True, None if repeats == 1 else 1)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_evaluation_that_is_as_good_as_one_before_is_no_better(mode: str) -> None:
    standings = Standings(mode, "best", keep=1)
    assert standings.counts(1, 0.5, last=False)
    assert not standings.counts(1, 0.5, last=False)


def test_a_trial_that_ended_before_its_checkpoint_came_has_none() -> None:
    standings = Standings("min", "last", keep=1)
    assert standings.counts(1, 0.5, last=True)
    assert standings.ended(1) == []
    assert standings.needed() == set()


def test_of_repeats_the_best_run_of_the_best_mean_stays() -> None:
    """The single best run, of a configuration that is worse on the mean, is not what the results have first."""
    standings = Standings("min", "last", keep=1, repeats=2)
    runs = [(1, 0.1, 1), (2, 0.2, 2), (3, 0.9, 1), (4, 0.3, 2)]
    for number, score, group in runs:
        # While repeats are missing nobody knows which configuration will win.
        if standings.counts(number, score, True, group):
            standings.stored(Stored(number, 10), best=True)
        standings.ended(number)
    standings.over()
    assert standings.best() == 2
    assert standings.needed() == {Stored(2, 10)}


def test_of_configurations_with_equal_means_the_one_whose_first_run_came_first_is_ahead() -> None:
    standings = Standings("min", "last", keep=1, repeats=2)
    for number, group in [(1, 1), (2, 2), (3, 2), (4, 1)]:
        standings.counts(number, 0.5, True, group)
    assert standings.best() == 1


def test_a_configuration_has_one_run_where_nothing_else_is_said() -> None:
    standings = Standings("min", "last", keep=1)
    assert standings.counts(1, 0.5, True, 1)
    assert not standings.counts(2, 0.6, True, 2)


def test_a_trial_without_repeats_lacks_none_beside_others_that_have_them() -> None:
    """As in the table of results, where a sweep goes on with another number of repeats."""
    standings = Standings("min", "last", keep=1, repeats=2)
    assert standings.counts(1, 0.5, True, None)
    assert not standings.counts(2, 0.6, True, None)


def test_a_configuration_with_a_run_too_few_stands_behind() -> None:
    standings = Standings("min", "last", keep=1, repeats=2)
    for number, score, group in [(1, 0.5, 1), (2, 0.5, 1), (3, 0.1, 2)]:
        assert standings.counts(number, score, True, group) is (number != 2)
        standings.stored(Stored(number, 10), best=True)
        standings.ended(number)
    assert standings.needed() == {Stored(1, 10), Stored(3, 10)}
    assert standings.over() == [Stored(3, 10)]
    assert standings.best() == 1


def test_what_was_no_better_is_counted_by_configurations_when_their_last_repeat_has_ended() -> None:
    """Of the one that is ahead only one run is the best one, and the others of it are no worse a configuration."""
    standings = Standings("min", "last", keep=1, repeats=2)
    counted = []
    for number, score, group in [(1, 0.5, 1), (2, 0.6, 1), (3, 0.7, 2), (4, 0.4, 3), (5, 0.8, 2), (6, 0.2, 3)]:
        standings.counts(number, score, True, group)
        standings.ended(number, group)
        counted.append(standings.without_better)
    assert counted == [0, 0, 0, 0, 1, 0]
    standings.ended(5, 2)
    assert standings.without_better == 0
    # One of these failed, and none came to a score that counts.
    for number in (7, 8):
        standings.ended(number, 4)
    assert standings.without_better == 1


events = st.lists(st.tuples(st.integers(1, 4), st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


@given(events, st.sampled_from(["min", "max"]), st.sampled_from(["last", "best"]), st.integers(1, 3))
def test_in_the_end_there_are_the_best_ones_and_no_others(
    happened: list[tuple[int, float, bool]], mode: str, scope: str, keep: int
) -> None:
    """Whatever happens in which order: as in a sweep that stores what it is told to and deletes what it is told to."""
    standings = Standings(mode, scope, keep)
    there: set[Stored] = set()
    ended: set[int] = set()
    for step, (number, score, last) in enumerate(happened):
        if number in ended:
            continue
        if standings.counts(number, score, last):
            there.add(Stored(number, step))
            there -= set(standings.stored(Stored(number, step), best=True))
        if last:
            ended.add(number)
            there -= set(standings.ended(number))
    there -= set(standings.over())
    sign = -1 if mode == "max" else 1
    best = sorted(standings.scores, key=lambda number: (sign * standings.scores[number], number))[:keep]
    assert {stored.number for stored in there} == set(best)
    assert len(there) == len(best)


of_groups = st.lists(st.tuples(st.integers(1, 6), st.floats(0, 1)), min_size=1, max_size=30)


@given(of_groups, st.sampled_from(["min", "max"]), st.integers(1, 3), st.integers(1, 3))
def test_places_that_are_kept_are_those_that_sorting_everything_gives(
    happened: list[tuple[int, float]], mode: str, keep: int, repeats: int
) -> None:
    """Trials 1 to 6, each as many times as it comes; two or three, one after the other, are of one configuration."""
    standings = Standings(mode, "last", keep, repeats)
    sign = -1 if mode == "max" else 1

    def group(number: int) -> int:
        return (number - 1) // repeats

    for number, score in happened:
        asked = standings.counts(number, score, True, group(number) if repeats > 1 else None)
        runs = {of: [n for n in standings.scores if group(n) == of] for of in map(group, standings.scores)}

        def place(of: int, runs: dict[int, list[int]] = runs) -> tuple[int, float, int]:
            scores = [standings.scores[number] for number in runs[of]]
            return repeats - len(scores), sign * math.fsum(scores) / len(scores), min(runs[of])

        ranked = sorted(runs, key=place)
        best = {of: min(runs[of], key=lambda number: (sign * standings.scores[number], number)) for of in runs}
        assert standings.best() == best[ranked[0]]
        wanted = {best[of] for of in ranked[:keep]} | {best[of] for of in runs if len(runs[of]) < repeats}
        assert asked is (number in wanted)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_counts_what_the_sweep_had_run_before() -> None:
    clock = Clock()
    budget = Budget(seconds=60, before=50, clock=clock)
    assert not budget.stop_all()
    clock.now += 9.9
    assert not budget.stop_all()
    clock.now += 0.1
    assert budget.stop_all()
    assert budget.exhausted == "time"


def test_gpu_hours_are_those_of_all_trials() -> None:
    budget = Budget(gpu_hours=1.0, spent={1: 1800.0})
    assert not budget.stop_all()
    budget.spent[2] = 1800.0
    assert budget.stop_all()
    assert budget.exhausted == "gpu_hours"


def test_patience() -> None:
    budget = Budget(patience=2, without_better=1)
    assert not budget.stop_all()
    budget.without_better = 2
    assert (budget.stop_all(), budget.exhausted) == (True, "patience")


def test_a_sweep_in_which_every_trial_fails_ends() -> None:
    budget = Budget(failed=4)
    assert not budget.stop_all()
    budget.failed = 5
    budget.worked = True
    assert not budget.stop_all()
    budget.worked = False
    assert (budget.stop_all(), budget.exhausted) == (True, "failures")


def test_a_budget_without_limits_never_ends() -> None:
    budget = Budget(spent={1: 1e12}, without_better=10**6)
    assert not budget.stop_all()
    assert budget.exhausted is None
    assert not budget("trial", {})
