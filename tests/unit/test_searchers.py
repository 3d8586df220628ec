"""Every search algorithm: its suggestions follow from the seed, lie in the space, and what they came to is told."""

from __future__ import annotations

import importlib.util
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Trainable
from ray.tune.experiment import Experiment, Trial
from ray.tune.registry import register_trainable

from raytrainer.errors import ConfigError
from raytrainer.sweep.searchers import _BUILD
from raytrainer.sweep.searchers_optuna import SAMPLERS, Optuna
from raytrainer.sweep.space import Space
from raytrainer.sweep.suggesting import Suggesting
from raytrainer.sweep.suggestions import REPEAT
from tests.unit.sweep_stage import BATCH, DECAY, HEAD, RATE, SPACE, WIDE, loss, search, tune

KINDS: dict[str, dict[str, Any]] = {
    "random": {"search": "random"},
    "grid": {"search": "grid"},
    "hyperopt": {"search": {"hyperopt": {"n_initial_points": 4}}},
    "bohb": {"search": {"bohb": {"min_points_in_model": 5}}, "scheduler": "bohb"},
    "ax": {"search": {"ax": {"num_initialization_trials": 8}}},
    **{f"optuna {name}": {"search": {"optuna": {"sampler": name}}} for name in SAMPLERS},
}
MODELS = [name for name in KINDS if name not in ("random", "grid", "optuna random", "optuna qmc")]
MIXED = {
    **WIDE,
    "model.rank": {"choice": [4, "full", None, {"r": 8}, [1, 2]]},
    "training.dropout": {"quniform": [0.0, 0.5, 0.1]},
    "training.warmup": {"qrandint": [10, 50, 20]},
    "training.layers": {"lograndint": [1, 9]},
    "training.only": {"choice": [7]},
}


def space_of(kind: str, space: dict[str, Any] = MIXED) -> Space:
    return Space.of({**space, BATCH: {"grid": [8, 16, 32]}} if kind == "grid" else space)


def told(algorithm: Suggesting, number: int, worth: Any = None) -> list[Any]:
    """Let so many trials run one after the other; return what was suggested."""
    found = []
    for count in range(number):
        id = f"t_{count:05d}"
        suggestion = algorithm.suggestions.next(id)
        if suggestion is None:
            break
        found.append(suggestion)
        value = loss(suggestion.values, 1) if worth is None else worth(suggestion.values)
        result = {"eval_loss": value, "training_iteration": 1, "hyperband_info": {"budget": 1.0}}
        algorithm.suggestions.result(id, result)
        algorithm.suggestions.complete(id, result, error=False)
    return found


def test_every_search_algorithm_is_in_the_suite() -> None:
    assert {name.split()[0] for name in KINDS} == set(_BUILD)


@pytest.mark.parametrize("kind", KINDS)
def test_suggestions_lie_in_the_space_and_follow_from_the_seed(kind: str) -> None:
    space = space_of(kind)
    parameters = {one.key: one for one in space.parameters}
    found = [told(search(tune(**KINDS[kind], num_samples=9, seed=seed), space), 9) for seed in (3, 3, 4)]
    assert len(found[0]) == 9
    for suggestion in found[0]:
        assert set(suggestion.values) == set(parameters)
        for key, value in suggestion.values.items():
            assert parameters[key].takes(value), (key, value)
            assert type(value).__module__ == "builtins"
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_suggestion_is_from_is_told(kind: str) -> None:
    origins = [
        one.origin
        for one in told(search(tune(**KINDS[kind], num_samples=60), space_of(kind, WIDE)), 10 if kind == "ax" else 24)
    ]
    if kind in MODELS and "nsga" not in kind:
        assert origins[0] == "random"
        assert "model" in origins
    elif kind in MODELS:
        assert set(origins) == {"random"}, "they have a population of 50"
    else:
        assert set(origins) == {"grid" if kind == "grid" else "random"}


@pytest.mark.parametrize("kind", ["hyperopt", "ax", "optuna tpe", "optuna gp", "optuna cmaes"])
def test_a_model_learns_from_what_it_is_told(kind: str) -> None:
    space = Space.of({DECAY: {"uniform": [0.0, 1.0]}, RATE: {"uniform": [0.0, 1.0]}})

    def far(values: Any) -> float:
        return float((values[DECAY] - 0.7) ** 2 + (values[RATE] - 0.2) ** 2)

    for mode, sign in (("min", 1), ("max", -1)):
        number = 12 if kind == "ax" else 30
        algorithm = search(tune(**KINDS[kind], num_samples=number, mode=mode), space)
        found = told(algorithm, number, lambda values, sign=sign: sign * far(values))
        early, late = ([far(one.values) for one in part] for part in (found[:6], found[-number // 3 :]))
        assert sum(late) / len(late) < 0.6 * sum(early) / len(early)


@pytest.mark.parametrize("kind", KINDS)
def test_known_configurations_come_first_and_the_model_is_told(kind: str) -> None:
    base = {"training": {"learning_rate": 0.5, "batch": 16, "weight_decay": 0.3, "head": 2}}
    points = [{RATE: 0.01, HEAD: 3}, {RATE: 0.02, BATCH: 16, DECAY: 0.5, HEAD: 1}]
    space = space_of(kind, WIDE)
    settings = tune(**KINDS[kind], num_samples=6, baseline=True, points=points)
    found = told(search(settings, space, base), 40)
    assert [one.origin for one in found[:3]] == ["default", "known", "known"]
    assert found[0].values == {RATE: 0.5, BATCH: 16, DECAY: 0.3, HEAD: 2}, "as it is, though outside of the space"
    assert found[1].values.items() >= points[0].items()
    assert found[2].values == points[1]
    assert {one.origin for one in found[3:]}.isdisjoint({"default", "known"})
    assert len(found) == (3 + 6 * 3 if kind == "grid" else 6), "a grid is whole whatever else is tried"


@pytest.mark.parametrize("kind", KINDS)
def test_trials_that_fail_or_diverge_stop_nothing(kind: str) -> None:
    algorithm = search(tune(**KINDS[kind], num_samples=12), space_of(kind, WIDE))
    for number in range(12):
        id = f"t_{number}"
        assert algorithm.suggestions.next(id) is not None
        result = {"eval_loss": math.nan, "hyperband_info": {"budget": 1.0}} if number % 2 else None
        if result is not None:
            algorithm.suggestions.result(id, result)
        algorithm.suggestions.complete(id, result, error=result is None)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learnt_outlives_the_driver(kind: str, tmp_path: Path) -> None:
    register_trainable("outliving", Trainable)
    experiment = Experiment("sweep", "outliving", config={"fixed": 1}, storage_path=str(tmp_path))
    settings, space = tune(**KINDS[kind], num_samples=9, repeats=1), space_of(kind, WIDE)
    undisturbed = search(settings, space)
    undisturbed.add_configurations(experiment)
    for _ in range(5):
        finish(undisturbed, undisturbed.next_trial())
    waiting = undisturbed.next_trial()
    assert not undisturbed.has_checkpoint(str(tmp_path))
    undisturbed.save_to_dir(str(tmp_path), session_str="now")

    restored = search(settings, space)
    assert restored.has_checkpoint(str(tmp_path))
    restored.restore_from_dir(str(tmp_path))
    stories = []
    for algorithm in (undisturbed, restored):
        finish(algorithm, waiting)
        trials = [algorithm.next_trial() for _ in range(3)]
        stories.append([(trial.trial_id, trial.config, trial.evaluated_params) for trial in trials if trial])
        assert trials[0] is not None and trials[0].config["fixed"] == 1
        assert algorithm.suggestion(trials[0].trial_id).origin in ("random", "model", "grid")
    assert stories[0] == stories[1]
    assert [id[-6:] for id, *_ in stories[0]] == ["_00007", "_00008", "_00009"]
    assert kind == "grid" or restored.next_trial() is None
    assert restored.is_finished() == (kind != "grid")


def test_the_last_session_is_gone_on_from_though_its_file_looks_older(tmp_path: Path) -> None:
    register_trainable("resumed", Trainable)
    algorithm = optuna(num_samples=5)
    algorithm.add_configurations(Experiment("sweep", "resumed", storage_path=str(tmp_path)))
    for age, session in enumerate(("2026-11-23_09-59-59", "2026-11-23_10-00-00")):
        finish(algorithm, algorithm.next_trial())
        algorithm.save_to_dir(str(tmp_path), session_str=session)
        # Ray copies the files of all sessions to where they are read, in any order.
        os.utime(tmp_path / f"raytrainer-search-{session}.pkl", (1e9 - age, 1e9 - age))
    restored = optuna(num_samples=5)
    restored.restore_from_dir(str(tmp_path))
    assert len(study_of(restored).trials) == 2


@pytest.mark.parametrize("kind", ["random", "grid", "optuna tpe"])
def test_a_search_that_goes_on_has_as_many_trials_as_the_config_says_now(kind: str) -> None:
    space = space_of(kind, WIDE)

    def asked(samples: int) -> Suggesting:
        return search(tune(**KINDS[kind], num_samples=samples), space)

    few, many = asked(2), asked(4)
    told(few, few.total_samples)
    many.set_state(pickle.loads(pickle.dumps(few.get_state())))
    found = told(many, 100)
    assert len(found) == 2 * space.grid_size
    whole = [one.values for one in told(asked(4), 100)]
    assert kind not in ("random", "grid") or [one.values for one in found] == whole[2 * space.grid_size :]


def finish(algorithm: Suggesting, trial: Trial | None) -> None:
    assert trial is not None
    result = {"eval_loss": loss(trial.config, 1), "training_iteration": 1, "hyperband_info": {"budget": 1.0}}
    algorithm.on_trial_result(trial.trial_id, result)
    algorithm.on_trial_complete(trial.trial_id, result)


def study_of(algorithm: Suggesting) -> Any:
    assert isinstance(algorithm.suggestions.model, Optuna)
    return algorithm.suggestions.model.study


def optuna(**settings: Any) -> Suggesting:
    return search(tune(search="optuna", **settings))


@pytest.mark.parametrize("kind", ["random", "grid", "optuna tpe", "hyperopt", "ax"])
def test_each_configuration_is_repeated(kind: str) -> None:
    space = space_of(kind, WIDE)
    algorithm = search(tune(**KINDS[kind], num_samples=2, repeats=3), space)
    found = told(algorithm, 100)
    assert len(found) == algorithm.total_samples == 6 * space.grid_size
    for number in range(0, len(found), 3):
        group = found[number : number + 3]
        assert [one.values[REPEAT] for one in group] == [0, 1, 2]
        assert {one.group for one in group} == {number // 3 + 1}
        values = [{key: value for key, value in one.values.items() if key != REPEAT} for one in group]
        assert values[0] == values[1] == values[2]
    assert found[0].values != {**found[3].values, REPEAT: 0}


def test_the_mean_of_the_repeats_is_told_when_all_are_done_and_a_failed_one_holds_up_nobody() -> None:
    algorithm = optuna(num_samples=3, repeats=3)
    ids = [f"t_{number}" for number in range(9)]
    for id in ids:
        assert algorithm.suggestions.next(id) is not None
    done = algorithm.suggestions.complete
    done("t_0", {"eval_loss": 1.0}, error=False)
    done("t_2", {"eval_loss": 3.0}, error=False)
    assert [trial.state.name for trial in study_of(algorithm).trials] == ["RUNNING"] * 3
    done("t_1", {"eval_loss": 5.0}, error=False)
    done("t_3", {"eval_loss": 1.0}, error=False)
    done("t_4", None, error=True)
    done("t_5", {"eval_loss": 2.0}, error=False)
    for id in ("t_6", "t_7", "t_8"):
        done(id, {"eval_loss": math.inf}, error=False)
    assert [(trial.state.name, trial.value) for trial in study_of(algorithm).trials] == [
        ("COMPLETE", 3.0),
        ("COMPLETE", 1.5),
        ("FAIL", None),
    ]


def test_a_budget_cuts_the_last_group_and_that_one_is_told_too() -> None:
    algorithm = optuna(num_samples=4, repeats=2, budget={"max_trials": 3})
    assert algorithm.total_samples == 3
    assert len(told(algorithm, 10)) == 3
    assert [trial.state.name for trial in study_of(algorithm).trials] == ["COMPLETE"] * 2


@pytest.mark.parametrize(
    ("scope", "mode", "counts"), [("last", "min", 4.0), ("best", "min", 2.0), ("best", "max", 5.0)]
)
def test_the_evaluation_counts_that_the_scope_says(scope: str, mode: str, counts: float) -> None:
    algorithm = optuna(num_samples=2, scope=scope, mode=mode)
    for id in ("ended", "stopped while it waited"):
        assert algorithm.suggestions.next(id) is not None
        for value in (3.0, 2.0, 5.0, math.nan, 4.0):
            algorithm.suggestions.result(id, {"eval_loss": value})
    algorithm.suggestions.complete("ended", {"eval_loss": 4.0}, error=False)
    algorithm.suggestions.complete("stopped while it waited", None, error=False)
    assert [trial.value for trial in study_of(algorithm).trials] == [counts, counts]


@pytest.mark.parametrize(("scope", "counts"), [("last", None), ("best", 2.0)])
def test_a_trial_that_diverged_in_the_end_has_no_last_score(scope: str, counts: float | None) -> None:
    algorithm = optuna(num_samples=3, scope=scope)
    ends: dict[str, dict[str, float] | None] = {"ended": {"eval_loss": math.nan}, "stopped while it waited": None}
    ends["ended with no metric"] = {"step": 3}
    for id, end in ends.items():
        assert algorithm.suggestions.next(id) is not None
        for value in (2.0, 3.0) if id == "ended" else (2.0, math.nan):
            algorithm.suggestions.result(id, {"eval_loss": value})
        algorithm.suggestions.complete(id, end, error=False)
    assert [trial.value for trial in study_of(algorithm).trials] == [counts] * 3


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii", "random", "gp"])
def test_several_metrics_are_searched_for_together(sampler: str) -> None:
    settings = tune(
        metric=["eval_loss", "eval_speed"], mode=["min", "max"], search={"optuna": {"sampler": sampler}}, num_samples=6
    )
    algorithm = search(settings)
    for number in range(6):
        id = f"t_{number}"
        assert algorithm.suggestions.next(id) is not None
        result = {"eval_loss": float(number), "eval_speed": -1.0} if number else {"eval_loss": 1.0}
        algorithm.suggestions.complete(id, result, error=False)
    study = study_of(algorithm)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [trial.values for trial in study.trials] == [None, *([float(n), -1.0] for n in range(1, 6))]


def test_what_was_evaluated_elsewhere_is_known_to_optuna_and_not_tried_again() -> None:
    values = {RATE: 0.01, BATCH: 16, DECAY: 0.4, HEAD: 2, "model.rank": {"r": 8}}
    space = Space.of({**WIDE, "model.rank": {"choice": [4, {"r": 8}]}})
    evaluated = [{"values": values, "metrics": {"eval_loss": 0.5, "eval_other": 1.0}}] * 12
    algorithm = search(tune(search={"optuna": {"evaluated": evaluated}}), space)
    first = study_of(algorithm).trials[0]
    assert (first.state.name, first.value, first.params[RATE]) == ("COMPLETE", 0.5, 0.01)
    suggestion = algorithm.suggestions.next("t_1")
    assert suggestion is not None
    assert suggestion.origin == "model", "12 trials are enough to learn from"
    assert suggestion.values != values


def test_optuna_is_asked_only_for_what_is_there() -> None:
    space = Space.of(
        {
            "model.kind": {"choice": ["lora", "full"]},
            "model.rank": {"randint": [1, 9], "when": {"model.kind": "lora"}},
            RATE: {"loguniform": [1e-4, 1e-1]},
        }
    )
    found = told(search(tune(search="optuna", num_samples=20), space), 20, lambda values: values[RATE])
    assert {("model.rank" in one.values, one.values["model.kind"]) for one in found} == {
        (True, "lora"),
        (False, "full"),
    }


def test_a_base_without_a_value_is_no_baseline() -> None:
    with pytest.raises(ConfigError, match=r"the base has no value for training.batch") as error:
        search(tune(baseline=True), base={"training": {"learning_rate": 0.1}})
    assert error.value.problems[0].fix == "training.batch in the base, or baseline: false"
    # What transformers has a default for has a value.
    space = Space.of({RATE: {"uniform": [0, 1]}})
    (first, *_) = told(search(tune(baseline=True), space), 1, lambda values: 0.0)
    assert first.values == {RATE: 5e-05}


def test_conditions_that_the_base_does_not_meet_need_no_value_there() -> None:
    space = Space.of(
        {"model.kind": {"choice": ["lora", "full"]}, "model.r": {"randint": [1, 9], "when": {"model.kind": "lora"}}}
    )
    (first, *_) = told(search(tune(baseline=True), space, {"model": {"kind": "full"}}), 1, lambda values: 1.0)
    assert first.values["model.kind"] == "full"


@pytest.mark.parametrize(
    ("settings", "trials"),
    [
        ({"num_samples": 4}, 4),
        ({"num_samples": 4, "repeats": 3}, 12),
        ({"num_samples": 4, "repeats": 3, "budget": {"max_trials": 10}}, 10),
        ({"num_samples": 4, "budget": {"max_trials": 100}}, 4),
        ({"num_samples": 1, "points": [{HEAD: 1}, {HEAD: 2}]}, 2),
        ({"num_samples": -1, "budget": {"max_trials": 7}}, 7),
    ],
)
def test_how_many_trials_there_are(settings: dict[str, Any], trials: int) -> None:
    algorithm = search(tune(**settings))
    assert algorithm.total_samples == trials
    assert len(told(algorithm, 200)) == trials


def test_a_grid_is_tried_point_by_point_with_each_sample() -> None:
    space = Space.of({BATCH: {"grid": [8, 16]}, HEAD: {"grid": [1, 2, 3]}, DECAY: {"uniform": [0, 1]}})
    found = told(search(tune(search="grid", num_samples=2), space), 100, lambda values: 0.0)
    points = [(one.values[BATCH], one.values[HEAD]) for one in found]
    assert len(points) == 12
    assert set(points[:6]) == set(points[6:]) == {(batch, head) for batch in (8, 16) for head in (1, 2, 3)}
    assert len({one.values[DECAY] for one in found}) == 12
    settings = tune(search={"grid": {"constant_grid_search": True}}, num_samples=2)
    found = told(search(settings, space), 100, lambda values: 0.0)
    assert len({one.values[DECAY] for one in found}) == 2


def test_no_more_trials_are_made_than_run_at_a_time(tmp_path: Path) -> None:
    register_trainable("few", Trainable)
    experiment = Experiment("sweep", "few", storage_path=str(tmp_path))
    algorithm = search(tune(search="optuna", num_samples=5), most=2)
    algorithm.add_configurations(experiment)
    first, second = algorithm.next_trial(), algorithm.next_trial()
    assert algorithm.next_trial() is None
    assert first is not None and second is not None
    algorithm.on_trial_result(first.trial_id, {"eval_loss": 1.0})
    assert algorithm.next_trial() is None
    finish(algorithm, first)
    assert algorithm.next_trial() is not None

    # Trials that wait for each other have to be there: with a model, as many as nobody knows anything of yet.
    waiting = search(tune(search="optuna", scheduler="hyperband", num_samples=5), most=2)
    waiting.add_configurations(experiment)
    first, second = waiting.next_trial(), waiting.next_trial()
    assert first is not None and waiting.next_trial() is None
    waiting.on_trial_result(first.trial_id, {"eval_loss": 1.0})
    assert waiting.next_trial() is not None

    # Where nobody knows how many there is room for, a model still has to learn before it says more.
    unknown = search(tune(search="optuna", num_samples=20))
    unknown.add_configurations(experiment)
    trials = [trial for trial in (unknown.next_trial() for _ in range(20)) if trial is not None]
    assert len(trials) == 8
    unknown.on_trial_result(trials[0].trial_id, {"eval_loss": 1.0})
    finish(unknown, trials[1])
    assert [unknown.next_trial() is not None for _ in range(3)] == [True, True, False]

    population = search(tune(scheduler={"pbt": {"perturbation_interval": 1}}, num_samples=5), most=2)
    population.add_configurations(experiment)
    assert sum(population.next_trial() is not None for _ in range(9)) == 5


@pytest.mark.parametrize(
    ("settings", "extra", "package"),
    [
        ({"search": "optuna"}, "optuna", "optuna"),
        ({"search": {"optuna": {"sampler": "cmaes"}}}, "optuna", "cmaes"),
        ({"search": "hyperopt"}, "hyperopt", "hyperopt"),
        ({"search": "bohb", "scheduler": "bohb"}, "bohb", "ConfigSpace and hpbandster"),
        ({"search": "ax"}, "ax", "ax"),
    ],
)
def test_a_package_that_is_not_there_names_its_extra(
    settings: dict[str, Any], extra: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = set(package.split(" and "))
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else there(name))
    with pytest.raises(ConfigError, match=f"it takes the package {package}, which is not installed") as error:
        search(tune(**settings))
    assert f"pip install 'raytrainer[{extra}]'" in error.value.problems[0].fix


def test_a_search_is_pickled_whole() -> None:
    algorithm = search(tune(search="optuna"))
    assert pickle.loads(pickle.dumps(algorithm.get_state()))["_number"] == 0
    assert Space.of(WIDE) == SPACE
