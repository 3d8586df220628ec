"""What a sweep came to: scores, ranks, repeats, what was used and spared, and what may be claimed of the winner."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raytrainer.checkpoints import Store
from raytrainer.sweep.groups import Noise
from raytrainer.sweep.records import Change, End, Evaluation, SweepRecord, Trial, TrialRecord
from raytrainer.sweep.results import Results, read_results, results_of
from raytrainer.sweep.scores import fronts, score, values_at
from raytrainer.sweep.spending import best_so_far, savings, trained_steps
from raytrainer.sweep.tables import print_results, rows, write_results
from raytrainer.sweep.verdicts import against_default, against_random, best_of, equal_draws, least_margin
from raytrainer.sweep.wording import cause, duration, folded, number, numbers, short_names, value_text
from tests.unit import sweep_records
from tests.unit.sweep_records import BATCH, FINISHED, RATE, Made, sweep, trial

NAN = math.nan


def simple(number: int, *losses: float, end: End | None = FINISHED, **more: object) -> Trial:
    return trial(number, {RATE: number / 1000, BATCH: 16}, list(losses), end, **more)


def ranked(*trials: Trial, **more: object) -> Results:
    return results_of(sweep(**more), trials)


def order(results: Results) -> list[int]:
    return [r.number for r in results.ranked]


def results(made: Made) -> Results:
    return results_of(made.sweep, made.trials)


# scores


@pytest.mark.parametrize(
    ("scope", "mode", "losses", "expected"),
    [
        ("last", "min", (3.0, 1.0, 2.0), (2.0, 30)),
        ("best", "min", (3.0, 1.0, 2.0), (1.0, 20)),
        ("best", "max", (3.0, 1.0, 2.0), (3.0, 10)),
        ("best", "min", (3.0, NAN, 4.0), (3.0, 10)),
        ("best", "max", (3.0, math.inf), (3.0, 10)),
        ("last", "max", (3.0,), (3.0, 10)),
    ],
)
def test_a_trial_counts_with_one_evaluation(
    scope: str, mode: str, losses: tuple[float, ...], expected: tuple[float, int]
) -> None:
    found = score(simple(1, *losses), sweep(scope=scope, mode=[mode]))
    assert found.evaluation is not None
    assert (found.values[0], found.evaluation.step) == expected


def test_a_training_that_diverged_in_the_end_has_no_score_by_its_last_evaluation() -> None:
    found = score(simple(1, 1.0, NAN), sweep())
    assert math.isnan(found.values[0]) and not found.measured


def test_an_evaluation_without_the_metric_is_passed_over() -> None:
    one = simple(1, 2.0)
    other = Evaluation(20, 2.0, 0.0, 0.0, {"eval_accuracy": 1.0})
    found = score(replace(one, record=replace(one.record, history=(*one.record.history, other))), sweep())
    assert found.values == (2.0,)


def test_a_trial_that_was_not_evaluated_has_no_score() -> None:
    found = score(simple(1), sweep(metric=["a", "b"], mode=["min", "max"]))
    assert found.evaluation is None and len(found.values) == 2 and not found.measured


def test_changed_values_are_those_of_later_evaluations() -> None:
    record = TrialRecord(
        "a", 1, "random", values={"x": 1, "y": 1}, changes=(Change(20, {"x": 2}), Change(40, {"x": 3}))
    )
    at = {step: values_at(record, Evaluation(step, None, 0, 0, {}))["x"] for step in (10, 20, 30, 50)}
    assert at == {10: 1, 20: 1, 30: 2, 50: 3}
    assert values_at(record, None) == {"x": 3, "y": 1}


# ranks


@pytest.mark.parametrize(("mode", "expected"), [("min", [2, 1, 4, 3]), ("max", [4, 1, 2, 3])])
def test_the_best_comes_first_and_what_diverged_last(mode: str, expected: list[int]) -> None:
    found = ranked(simple(1, 2.0), simple(2, 1.0), simple(3, NAN), simple(4, 3.0), mode=[mode])
    assert order(found) == expected
    assert [r.rank for r in found.ranked] == [1, 2, 3, 4]
    assert [r.number for r in found.ranked if r.front] == expected[:1]


def test_a_failed_trial_is_behind_all_others_however_good_it_was() -> None:
    failed = simple(1, 0.1, end=End("failed", error="x"))
    found = ranked(failed, Trial(TrialRecord("", 2, ""), damage="torn"), simple(3), simple(4, 9.0))
    assert order(found) == [4, 3, 1, 2]
    assert found.best is not None and found.best.number == 4


@pytest.mark.parametrize("trials", [[], [simple(1)], [simple(1, 1.0, end=End("failed"))], [simple(1, NAN)]])
def test_there_may_be_no_best(trials: list[Trial]) -> None:
    found = ranked(*trials)
    assert found.best is None
    assert not any(r.front for r in found.ranked)


def test_equal_trials_are_in_the_order_of_creation() -> None:
    assert order(ranked(simple(3, 1.0), simple(1, 1.0), simple(2, 1.0))) == [1, 2, 3]


def test_repeats_rank_by_their_mean_and_the_lucky_run_does_not_win() -> None:
    lucky = [simple(1, 0.1, group=0), simple(2, 2.0, group=0)]
    steady = [simple(3, 0.9, group=1), simple(4, 0.8, group=1)]
    found = ranked(*lucky, *steady, repeats=2)
    assert order(found) == [4, 3, 1, 2]
    group = found.groups[0]
    assert (group.mean, group.numbers) == (1.05, (1, 2))
    assert group.deviation == pytest.approx(1.9 / math.sqrt(2))


def test_a_configuration_with_fewer_repeats_stands_behind() -> None:
    half = [simple(1, 0.1, group=0), simple(2, 0.2, end=End("failed"), group=0)]
    found = ranked(*half, simple(3, 0.9, group=1), simple(4, 0.8, group=1), repeats=2)
    assert order(found) == [4, 3, 1, 2]
    assert found.groups[0].scores == (0.1,)


def test_noise_is_pooled_over_the_repeated_configurations() -> None:
    values = {0: [1.0, 2.0, 3.0], 1: [5.0, 5.5], 2: [7.0]}
    trials = [simple(10 * g + i + 1, v, group=g) for g, vs in values.items() for i, v in enumerate(vs)]
    found = ranked(*trials, repeats=3).noise
    expected = math.sqrt((2 * statistics.variance(values[0]) + statistics.variance(values[1])) / 3)
    assert found == Noise(pytest.approx(expected), freedom=3, groups=2)


def test_without_repeats_there_is_no_noise() -> None:
    assert ranked(simple(1, 1.0), simple(2, 2.0)).noise is None


def test_fronts_are_those_of_the_definition() -> None:
    draw = random.Random(0)
    points = [(draw.randint(0, 9), draw.randint(0, 9), draw.randint(0, 9)) for _ in range(60)]
    left, expected, rank = list(range(60)), [0] * 60, 0
    while left:
        beaten = {
            i for i in left for j in left
            if points[j] != points[i] and all(a <= b for a, b in zip(points[j], points[i], strict=True))
        }  # fmt: skip
        for i in set(left) - beaten:
            expected[i] = rank
        left, rank = sorted(beaten), rank + 1
    assert fronts(points) == expected


def test_several_objectives_rank_by_front_then_by_the_first() -> None:
    found = results(sweep_records.several_objectives())
    front = [r for r in found.ranked if r.front]
    assert found.best is front[0] and [r.rank for r in front] == list(range(1, len(front) + 1))
    firsts = [r.score.values[0] for r in front]
    assert firsts == sorted(firsts, reverse=True)
    for r in found.ranked:
        beaten = any(all(a >= b for a, b in zip(o.score.values, r.score.values, strict=True))
                     and o.score.values != r.score.values for o in found.ranked if o.score.measured)  # fmt: skip
        assert r.front == (r.score.measured and not beaten)


# used and spared


def test_steps_that_were_not_trained_are_not_counted() -> None:
    history = tuple(Evaluation(step, None, 0, 0, {}) for step in (10, 20, 60, 70, 40, 50))
    record = TrialRecord("a", 1, "random", history=history, changes=(Change(50, {}, "b", 2),))
    # To 60 from another trial's 50; then again from its own 20.
    assert trained_steps(record) == [10, 10, 10, 10, 20, 10]


def test_the_best_so_far_never_gets_worse_and_ends_with_all_that_was_used() -> None:
    made = sweep_records.asha()
    points = best_so_far(made.trials, made.sweep)
    assert [p.best for p in points] == sorted((p.best for p in points), reverse=True)
    for name in ("seconds", "steps", "trial_hours", "gpu_hours"):
        values = [getattr(p, name) for p in points]
        assert values == sorted(values)
    every = [e for t in made.trials for e in t.record.history]
    assert points[-1].best == min(e.metrics["eval_loss"] for e in every if not math.isnan(e.metrics["eval_loss"]))
    assert points[-1].steps == 10 * len(every)
    assert points[-1].gpu_hours == pytest.approx(sum(t.record.history[-1].seconds for t in made.trials) * 0.5 / 3600)
    assert points[-1].trial_hours == pytest.approx(2 * points[-1].gpu_hours)


def test_the_best_so_far_is_found_in_the_order_of_time() -> None:
    late = trial(1, {BATCH: 16}, [1.0], FINISHED, began=sweep_records.BEGAN + 100)
    points = best_so_far([late, simple(2, 5.0, NAN, 3.0)], sweep())
    assert [(p.best, p.number, p.steps) for p in points] == [(5.0, 2, 10), (5.0, 2, 20), (3.0, 2, 30), (1.0, 1, 40)]
    assert points[-1].seconds == 105.0


def test_a_maximum_rises() -> None:
    points = best_so_far([simple(1, 1.0, 3.0, 2.0)], sweep(mode=["max"]))
    assert [p.best for p in points] == [1.0, 3.0, 3.0]


def test_early_stopping_spared_what_the_stopped_had_left() -> None:
    trials = [
        simple(1, *[1.0] * 10),
        simple(2, 2.0, 2.0, end=End("stopped", "asha")),  # 20 of 100 steps in 11 s on half a GPU
        simple(3, 2.0, end=End("stopped", "time")),
        simple(4, 2.0, end=End("failed")),
        simple(5, 2.0, end=End("stopped", "asha"), max_steps=0),
    ]
    found = savings(trials)
    assert (found.trials, found.steps, found.used_steps, found.unknown) == (2, 80, 150, 1)
    assert found.hours == pytest.approx(80 * 11 / 20 / 3600)
    assert found.gpu_hours == pytest.approx(found.hours / 2)
    assert found.share == pytest.approx(80 / 230)


def test_nothing_stopped_is_nothing_spared() -> None:
    found = savings([simple(1, 1.0)])
    assert (found.trials, found.share) == (0, 0.0)


# against the base configuration


def test_a_winner_far_from_the_base_is_better_by_more_than_the_noise() -> None:
    verdict = against_default(results(sweep_records.repeated(noise=0.005)))
    assert verdict.finding == "better by more than the noise"
    assert "(3 runs) against" in verdict.reason and "best of 6" in verdict.reason


def test_a_winner_that_only_luck_made_is_within_the_noise() -> None:
    """Of 200 sweeps whose configurations are all equal, about one in 20 may claim something: chance."""
    claims = 0
    for seed in range(200):
        draw = random.Random(seed)
        trials = [
            simple(3 * g + i + 1, draw.gauss(1.0, 0.1), group=g, origin="random" if g else "default")
            for g in range(11)
            for i in range(3)
        ]
        finding = against_default(ranked(*trials, repeats=3)).finding
        assert finding in ("better by more than the noise", "within the noise")
        claims += finding == "better by more than the noise"
    assert claims <= 20


def test_the_best_of_more_rivals_needs_a_larger_margin() -> None:
    margins = [least_margin(Noise(0.1, 20, 10), rivals, 3, 3) for rivals in (1, 10, 100)]
    # One rival: Student's t of a difference, 1.725 * 0.1 * sqrt(2 / 3).
    assert margins[0] == pytest.approx(0.1408, rel=0.05)
    assert margins[0] < margins[1] < margins[2]
    assert least_margin(Noise(0.1, 2, 1), 10, 3, 3) > margins[1]


BASE = {"origin": "default"}


@pytest.mark.parametrize(
    ("trials", "finding", "reason"),
    [
        ([], "not measured", "No trial has a score."),
        ([simple(1, 1.0)], "not measured", "was not among the trials (tune.baseline: true)"),
        (
            [simple(1, 1.0), simple(2, 2.0, **BASE)],
            "not measured",
            "1 against 2, 1 better (50.0%); no configuration was",
        ),
        ([simple(1, 1.0), simple(2, 0.5, **BASE)], "within the noise", "itself is the best"),
        (
            [simple(1, 1.0), simple(2, 2.0, end=End("stopped", "asha"), **BASE)],
            "not measured",
            "was not trained to its end (stopped)",
        ),
        ([simple(1, 1.0), simple(2, 2.0, end=None, **BASE)], "not measured", "was not trained to its end (running)"),
        ([simple(1, 1.0), simple(2, end=End("failed"), **BASE)], "not measured", "not trained to its end (failed)"),
        (
            [simple(1, 1.0), simple(2, 2.0, changes=(Change(5, {}, "a", 1),), **BASE)],
            "not measured",
            "took over other trials' values",
        ),
    ],
)
def test_nothing_is_claimed_against_the_base_that_was_not_measured(
    trials: list[Trial], finding: str, reason: str
) -> None:
    verdict = against_default(ranked(*trials))
    assert verdict.finding == finding
    assert reason in verdict.reason


def test_of_several_objectives_it_is_told_how_many_are_nowhere_worse() -> None:
    verdict = against_default(results(sweep_records.several_objectives()))
    assert verdict.finding == "not measured"
    assert "2 of the 2 trials on the Pareto front are nowhere worse" in verdict.reason


# against random search


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_expected_best_is_that_of_drawing(mode: str) -> None:
    scores = [1.0, 2.0, 4.0, 7.0, 11.0]
    draw, pick = random.Random(0), min if mode == "min" else max
    expected = statistics.fmean(pick(draw.choices(scores, k=3)) for _ in range(20_000))
    found = best_of(scores, 3, mode)
    assert found.expected == pytest.approx(expected, rel=0.03)
    assert found.low <= found.expected <= found.high


def test_the_best_of_one_draw_is_the_mean() -> None:
    assert best_of([1.0, 2.0, 3.0], 1, "min").expected == pytest.approx(2.0, rel=0.02)


def test_an_equal_budget_is_counted_in_whole_trials() -> None:
    assert equal_draws(results(sweep_records.model_based(30))) == 30
    made = sweep_records.asha()
    assert equal_draws(results(made)) == round(sum(10 * len(t.record.history) for t in made.trials) / 100)
    assert equal_draws(results(sweep_records.repeated(configurations=6, repeats=3))) == 7


def test_a_model_that_beats_as_many_random_draws_is_better() -> None:
    """Twelve whole trials' steps, and twelve random draws to tell what they would have found."""
    drawn = [simple(i, *[1.0 + i / 10] * 10) for i in range(1, 13)]
    stopped = [trial(20, {}, [0.5] * 5, FINISHED, origin="model")]
    found = ranked(*drawn, *stopped)
    assert equal_draws(found) == 12
    verdict = against_random(found)
    assert verdict.finding == "better by more than the noise"
    assert verdict.reason.startswith("0.5 against 1.")
    assert against_random(ranked(*drawn[:8], *stopped)).finding == "better by more than the noise"


def test_a_model_whose_best_is_worse_than_random_draws_would_be_is_worse() -> None:
    """Random draws that would be better were seen: those of origin random that stand behind by their repeats."""
    drawn = [simple(i, *[1.0] * 10, group=i) for i in range(1, 13)]
    model = [simple(20 + i, *[2.0] * 10, origin="model", group=20) for i in range(2)]
    verdict = against_random(ranked(*drawn, *model, repeats=2))
    assert verdict.finding == "worse"


def test_a_model_that_is_no_better_than_random_draws_is_within_the_noise() -> None:
    trials = [simple(i, 1.0 + i / 10) for i in range(1, 11)] + [simple(11, 1.15, origin="model")]
    assert against_random(ranked(*trials)).finding == "within the noise"


def test_random_trials_that_diverged_are_draws_too() -> None:
    trials = [simple(i, 1.0 + i / 10 if i < 6 else NAN) for i in range(1, 11)] + [simple(11, 1.0, origin="model")]
    assert "from 10 trials" in against_random(ranked(*trials)).reason


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (sweep_records.none_yet(), "No trial has a score."),
        (sweep_records.several_objectives(), "no one winner"),
        (sweep_records.pbt(), "took over weights and values from each other"),
        (sweep_records.repeated(), "Only 0 random trials"),
        (sweep_records.model_based(trials=10, known=10), "This sweep is plain random search."),
        (sweep_records.model_based(), "30 draws may find better than the best of the 10 that were seen"),
        (sweep_records.asha(), "24 of the 27 random trials were stopped early"),
    ],
)
def test_nothing_is_claimed_against_random_search_that_was_not_measured(made: Made, reason: str) -> None:
    verdict = against_random(results(made))
    assert verdict.finding == "not measured"
    assert reason in verdict.reason


# tables


def test_the_files_have_the_same_rows_best_first(tmp_path: Path) -> None:
    made = sweep_records.asha()
    found = write_results(made.write(Store(str(tmp_path))))
    table = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    told = json.loads((tmp_path / "results.json").read_text())
    assert list(table[0]) == told["columns"] == [
        *("rank", "trial", "state", "score", "eval_loss", "steps", "seconds", "gpu_hours"),
        *(*sweep_records.SPACE, "origin", "group", "checkpoint"),
    ]  # fmt: skip
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in told["trials"]] == order(found)
    assert float(table[0]["score"]) == told["trials"][0]["eval_loss"] == found.ranked[0].score.values[0]
    assert told["trials"][0]["checkpoint"] == f"trials/{found.ranked[0].number:05d}/checkpoints/checkpoint-100"
    assert told["trials"][1]["checkpoint"] is None
    assert [verdict["finding"] for verdict in told["verdicts"]] == ["not measured"] * 2
    assert told["state"] == "finished"


@pytest.mark.parametrize(
    "name", ["model_based", "repeated", "pbt", "several_objectives", "with_failures", "hostile", "running", "none_yet"]
)
def test_every_sweep_has_tables(name: str, tmp_path: Path) -> None:
    made: Made = getattr(sweep_records, name)()
    found = write_results(made.write(Store(str(tmp_path))))
    told = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(told["trials"]) == len(made.trials) == len(found.ranked)
    assert len(list(csv.reader(io.StringIO((tmp_path / "results.csv").read_text())))) == len(made.trials) + 1


def printed(found: Results, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_results(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_shows_the_best_and_what_differs() -> None:
    text = printed(results(sweep_records.asha()))
    first = next(line for line in text.splitlines() if line.startswith(" 1 "))
    assert "finished" in first and "0.4056" in first and "0.001879" in first
    assert "and in results.csv: 7 more trials" in text
    assert "Against the base configuration: not measured. " in text


def test_a_narrow_terminal_shows_the_values_for_which_there_is_room() -> None:
    wide, narrow = (printed(results(sweep_records.asha()), width) for width in (160, 60))
    assert "weight_" in wide and "weight_" not in narrow.partition("and in results.csv")[0]
    assert "and in results.csv: 7 more trials; " in narrow and "weight_decay" in " ".join(narrow.split())
    first = next(line for line in narrow.splitlines() if line.startswith(" 1 "))
    assert "finished" in first and "0.4056" in first


def test_the_terminal_shows_the_mean_of_repeats() -> None:
    found = results(sweep_records.repeated())
    group = found.group_of(found.ranked[0])
    assert f"{group.mean:.4g} ± {group.deviation:.2g} (3)" in printed(found)


def test_markup_in_a_value_is_only_text() -> None:
    one, other = simple(1, 1.0), simple(2, 2.0)
    bold = replace(one, record=replace(one.record, values={"model.name": "[bold red]x[/nothing]"}))
    assert "[bold red]x[/nothing]" in printed(ranked(bold, other))


def test_results_of_a_folder_that_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_results(Store(str(tmp_path)))


def test_a_checkpoint_is_the_scored_one_or_the_newest() -> None:
    chosen = {
        steps: ranked(replace(simple(1, 3.0, 1.0, 2.0), checkpoints=steps), scope="best").ranked[0].checkpoint
        for steps in [(), (10, 30), (10, 20, 30)]
    }
    assert chosen == {(): None, (10, 30): 30, (10, 20, 30): 20}


def test_a_record_without_a_scope_or_noise_has_its_defaults() -> None:
    assert SweepRecord("a", ["eval_loss"], ["min"]).scope == "last"


# words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (3.0, "3"), (1.5e-5, "1.5e-05"), (NAN, "-"), (math.inf, "inf"), (123456.7, "1.235e+05")],
)
def test_numbers_have_the_digits_that_are_of_use(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.4, 0.51234, NAN], ["0.4000", "0.5123", "-"]),
        ([1.0, 20.0], ["1", "20"]),
        ([0.41, 0.4056, 2.3, 1.9, 1.8], ["0.4100", "0.4056", "2.3000", "1.9000", "1.8000"]),
        ([1e-7, 2.0, 3.0], ["0.00000", "2.00000", "3.00000"]),
        ([1e-9, 2e-9], ["1e-09", "2e-09"]),
        ([], []),
        ([NAN, 0.0], ["-", "0"]),
    ],
)
def test_numbers_of_a_column_have_the_same_decimals(values: list[float], texts: list[str]) -> None:
    assert numbers(values) == texts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.31, "0.31 s"), (42.4, "42 s"), (185, "3 min 5 s"), (3600, "1 h"), (8040, "2 h 14 min"), (90000, "1 d 1 h")],
)
def test_times_are_spelt(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_values_and_names_are_spelt() -> None:
    assert [value_text(v) for v in (0.5, 3, "x", None, True, [1, 2])] == ["0.5", "3", "x", "null", "true", "[1, 2]"]
    assert short_names(["training.seed", "data.seed", "model.r"]) == ["training.seed", "data.seed", "r"]
    assert folded("per_device_train_batch_size") == "per_device_\ntrain_batch_\nsize"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("ValueError: no", "ValueError: no"),
        ('Traceback\n  File "a.py", line 1\nValueError: no\n', "ValueError: no"),
        (
            "ArgumentsError: trainer = 'own:build': there is no module own\n  Instead: one\n",
            "ArgumentsError: trainer = 'own:build': there is no module own",
        ),
        ("  indented", "indented"),
        ("", ""),
    ],
)
def test_the_cause_of_a_failure_is_what_went_wrong_and_not_what_to_write_instead(error: str, expected: str) -> None:
    assert cause(error) == expected


def test_the_work_for_a_table_grows_as_its_rows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(record: TrialRecord, evaluation: Evaluation | None) -> dict[str, Any]:
        asked.append(record.number)
        return values_at(record, evaluation)

    monkeypatch.setattr("raytrainer.sweep.results.values_at", counted)
    for trials in (10, 100):
        asked.clear()
        rows(ranked(*(simple(number, 1.0) for number in range(1, trials + 1))))
        assert max(asked.count(number) for number in (1, trials)) <= 3
