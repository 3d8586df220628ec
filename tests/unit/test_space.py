"""A search space, as Ray Tune and Optuna sample it: what comes out is what was declared."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import generate_variants

from raytrainer.config.sweep_expressions import ExpressionError, evaluate
from raytrainer.config.sweep_parameter import same
from raytrainer.errors import ConfigError
from raytrainer.sweep.space import Parameter, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

EVERY: dict[str, dict[str, Any]] = {
    "choice": {"choice": [16, "x", None, True]},
    "lists": {"choice": [[1, 2], {"a": 1}]},
    "uniform": {"uniform": [0, 1]},
    "loguniform": {"loguniform": [1e-5, 1e-2]},
    "quniform": {"quniform": [0.05, 1, 0.1]},
    "qloguniform": {"qloguniform": [0.05, 10, 0.1]},
    "randint": {"randint": [1, 4]},
    "lograndint": {"lograndint": [1, 100]},
    "qrandint": {"qrandint": [3, 10, 2]},
    "ones": {"qrandint": [3, 5, 1]},
    "normal": {"normal": [0, 1]},
    "qnormal": {"qnormal": [0, 1, 0.5]},
    "grid": {"grid": [1, 2, 3]},
}
ENDS = {
    **{"uniform": (0.0, 1.0), "loguniform": (1e-5, 1e-2), "quniform": (0.1, 1.0), "qloguniform": (0.1, 10.0)},
    **{"randint": (1, 3), "lograndint": (1, 99), "qrandint": (4, 10), "ones": (3, 5), "grid": (1, 3)},
    **{"normal": (-3.0, 3.0), "qnormal": (-3.0, 3.0)},
}


def parameter(space: Space, key: str) -> Parameter:
    return next(one for one in space.parameters if one.key == key)


def asked(space: Space, seed: int, number: int = 10) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    values = []
    for index in range(number):
        trial = study.ask()
        values.append(space.suggest(trial))
        study.tell(trial, float(index))
    return values


def within(space: Space, values: dict[str, Any]) -> bool:
    pairs = [(parameter(space, key), value) for key, value in values.items()]
    return all(one.takes(value) and type(value) is type(one.clamped(value)) for one, value in pairs)


@pytest.mark.parametrize("key", ENDS)
def test_the_ends_of_a_range(key: str) -> None:
    ends = parameter(Space.of(EVERY), key).ends
    assert ends == ENDS[key]
    assert list(map(type, ends)) == list(map(type, ENDS[key]))


@pytest.mark.parametrize("key", EVERY)
def test_ray_samples_what_is_declared_to_both_ends(key: str) -> None:
    space = Space.of({key: EVERY[key]})
    domain = space.domains()[key]
    one = parameter(space, key)
    if key == "grid":
        assert domain == {"grid_search": [1, 2, 3]}
        return
    assert isinstance(domain, Domain)
    state = np.random.RandomState(1)
    values = [domain.sample(random_state=state) for _ in range(300)]
    assert all(one.takes(value) for value in values)
    if one.whole:
        assert {type(value) for value in values} == {int}
        assert {min(values), max(values)} <= {one.ends[0], one.ends[1]} or key == "lograndint"
    if one.values:
        assert all(any(same(value, choice) for value in values) for choice in one.values)


def test_ray_makes_trials_of_it() -> None:
    space = Space.of({"training.learning_rate": {"loguniform": [1e-5, 1e-3]}, "training.seed": {"grid": [1, 2]}})
    assert space.grid_size == 2
    made = [config for _, config in generate_variants(space.domains(), random_state=1)]
    assert [config["training.seed"] for config in made] == [1, 2]
    assert all(within(space, config) for config in made)


@pytest.mark.parametrize("key", EVERY)
def test_optuna_is_asked_for_what_is_declared(key: str) -> None:
    space = Space.of({key: EVERY[key]})
    values = asked(space, seed=3, number=30)
    assert all(within(space, value) for value in values)
    assert len({str(value) for value in values}) > 1


def test_the_same_seed_asks_for_the_same_values() -> None:
    space = Space.of(EVERY)
    assert asked(space, seed=7) == asked(space, seed=7)
    assert asked(space, seed=7) != asked(space, seed=8)


def test_only_what_is_there_is_asked_for() -> None:
    space = Space.of(
        {
            "rank": {"randint": [1, 64], "when": {"alpha": [2, 4]}},
            "alpha": {"choice": [1, 2, 4], "when": {"adapter": True}},
            "adapter": {"choice": [True, False]},
        }
    )
    seen = set()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(40):
        trial = study.ask()
        values = space.suggest(trial)
        assert trial.params.keys() == values.keys()
        assert ("alpha" in values) == values["adapter"]
        assert ("rank" in values) == (values.get("alpha") in (2, 4))
        seen.add(tuple(values))
    assert seen == {("adapter",), ("alpha", "adapter"), ("rank", "alpha", "adapter")}
    everything = {"rank": 3, "alpha": 2, "adapter": False}
    assert space.domains().keys() == everything.keys()
    assert space.complete(everything, {}) == {"adapter": False}
    assert space.complete({**everything, "adapter": True}, {}) == {**everything, "adapter": True}


@pytest.mark.parametrize(
    ("key", "value", "clamped"),
    [
        *[("uniform", 1.08, 1.0), ("uniform", -1, 0.0), ("uniform", 0.5, 0.5), ("uniform", np.float64(0.5), 0.5)],
        *[("loguniform", 1e-9, 1e-5), ("quniform", 0.34, 0.3), ("quniform", 0.0, 0.1), ("qloguniform", 99, 10.0)],
        *[("randint", 2.6, 3), ("randint", 4, 3), ("randint", 0, 1), ("qrandint", 4.8, 4), ("qrandint", 11, 10)],
        *[
            ("choice", 17.0, 16),
            ("choice", "x", "x"),
            ("choice", "y", 16),
            ("choice", None, None),
            ("choice", True, True),
        ],
        *[
            ("grid", 2.4, 2),
            ("grid", np.int64(3), 3),
            ("normal", 99.0, 99.0),
            ("qnormal", 0.7, 0.5),
            ("lists", {"a": 1}, {"a": 1}),
        ],
        ("not there", 5, 5),
    ],
)
def test_clamping(key: str, value: Any, clamped: Any) -> None:
    made = Space.of(EVERY).clamp({key: value})[key]
    assert made == clamped
    assert type(made) is type(clamped)


def test_numbers_of_numpy_become_plain_ones() -> None:
    sampled = {"choice": np.int64(16), "uniform": np.float32(0.5), "randint": 2.0, "qrandint": np.int64(4)}
    made = Space.of(EVERY).complete({**sampled, "quniform": 0.1 * 3}, {})
    assert made == {"choice": 16, "uniform": 0.5, "randint": 2, "qrandint": 4, "quniform": 0.3}
    assert [type(value) for value in made.values()] == [int, float, float, int, int]


def test_what_population_based_training_and_bandits_take() -> None:
    space = Space.of(EVERY)
    mutations = space.mutations()
    assert mutations["choice"] == [16, "x", None, True]
    assert mutations["grid"] == [1, 2, 3]
    assert all(isinstance(mutations[key], Domain) for key in EVERY.keys() - {"choice", "grid", "lists"})
    assert space.bounds() == {key: list(ENDS[key]) for key in ("uniform", "loguniform", "quniform", "qloguniform")}


def test_a_line_for_each_key() -> None:
    space = Space.of({**EVERY, "x": {"expr": "uniform * 2", "when": {"grid": 1}}})
    lines = space.describe()
    assert list(lines) == [*EVERY, "x"]
    assert lines["quniform"] == "quniform: [0.05, 1, 0.1]"
    assert lines["choice"] == 'choice: [16, "x", null, true]'
    assert lines["x"] == 'expr: uniform * 2, when: {"grid": 1}'


def test_it_travels() -> None:
    space = Space.of(EVERY)
    assert pickle.loads(pickle.dumps(space)) == space


# any space

NUMBERS = st.floats(-1000, 1000, allow_nan=False).map(lambda value: round(value, 6))
POSITIVE = st.floats(1e-6, 1000).map(lambda value: float(f"{value:.6g}"))


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from([kind for kind in EVERY if kind not in ("lists", "ones")]))
    if kind in ("choice", "grid"):
        values = st.integers(-9, 9) | st.sampled_from(["a", "b", None, 0.5])
        return {kind: draw(st.lists(values, min_size=1, max_size=4, unique_by=str))}
    bounds: list[float]
    if "normal" in kind:
        bounds = [draw(NUMBERS), draw(POSITIVE)]
    elif "int" in kind:
        least = draw(st.integers(1 if "log" in kind else -50, 50))
        bounds = [least, least + draw(st.integers(1, 100))]
    else:
        low = draw(POSITIVE if "log" in kind else NUMBERS)
        bounds = [low, low + draw(POSITIVE)]
    if kind == "qrandint":
        bounds.append(draw(st.integers(1, int(bounds[1] - bounds[0]))))
    elif kind.startswith("q"):
        step = (bounds[1] - bounds[0]) / draw(st.sampled_from([1.5, 3, 10])) if "normal" not in kind else 0.25
        bounds.append(float(f"{step:.3g}"))
    return {kind: bounds}


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Each key may depend on a value of one before it."""
    said: dict[str, dict[str, Any]] = {}
    for number in range(draw(st.integers(1, 5))):
        made = draw(ranges())
        lists = [key for key, one in said.items() if "choice" in one]
        if lists and draw(st.booleans()):
            other = draw(st.sampled_from(lists))
            made["when"] = {other: draw(st.sampled_from(said[other]["choice"]))}
        said[f"k.{number}"] = made
    return Space.of(said)


@given(space=spaces(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_whatever_the_space_what_is_asked_for_is_in_it(space: Space, seed: int) -> None:
    for sampled in asked(space, seed, 3):
        assert within(space, sampled)
        assert space.complete(sampled, {}) == sampled
        assert space.clamp(sampled) == sampled


@given(space=spaces(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_the_space_what_is_clamped_is_in_it(space: Space, data: st.DataObject) -> None:
    anything = st.integers(-2000, 2000) | st.floats(-1e6, 1e6)
    values = {one.key: data.draw(anything) for one in space.parameters}
    once = space.clamp(values)
    assert within(space, once)
    assert space.clamp(once) == once


@given(space=spaces(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_whatever_the_space_what_ray_samples_is_in_it(space: Space, seed: int) -> None:
    random.seed(seed)
    for _, sampled in generate_variants(space.domains(), random_state=seed):
        assert within(space, sampled)
        completed = space.complete(sampled, {})
        assert all(same(value, sampled[key]) for key, value in completed.items())
        for one in space.parameters:
            there = all(key in completed and completed[key] in values for key, values in one.when.items())
            assert (one.key in completed) == there


# expressions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("256 // (scaling.num_workers * training.size)", 8), ("7 // 2.0", 3), ("7 / 2", 3.5), ("2 ** 3 - 1", 7)],
        *[("max(a, 3) + min(1, 2)", 6), ("round(a / 2)", 2), ("int(2.9)", 2), ("abs(-a)", 5), ("a % 3", 2)],
        *[("a > 3", True), ("1 if a > 9 else 2", 2), ("a > 1 and a < 9", True), ("not a", False), (" a ", 5)],
        *[("0.1 * a", 0.5), ("6 / 2", 3.0), ("kind == 'x'", True), ("1e-3 * (scaling.num_workers * 2) ** 0.5", 0.004)],
    ],
)
def test_arithmetic(text: str, value: Any) -> None:
    keys = {"scaling.num_workers": 8, "training.size": 4, "a": 5, "kind": "x"}
    made = evaluate(text, keys.__getitem__)
    assert made == pytest.approx(value)
    assert type(made) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *["", "1 +", "a = 1", "a; b", "lambda: 1", "[1]", "{}", "a[0]", "f'{a}'", "open('x')", "a.b()", "min(x=1)"],
        *["__import__('os')", "(1).real", "'a'.upper()", "min(*a)", "[x for x in a]", "a in b", "a is b", "1 << 2"],
        *[
            "9 ** 9 ** 9",
            "1 // 0",
            "None + 1",
            "1j",
            "min(1)",
            "(-1) ** 0.5",
            "1e308 * 10",
            "(" * 500 + "1" + ")" * 500,
        ],
    ],
)
def test_what_is_no_arithmetic(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text, {"a": 1, "b": 2}.__getitem__)


def test_expressions_of_expressions() -> None:
    space = Space.of(
        {
            "training.steps": {"expr": "training.epochs * data.size // training.batch"},
            "training.batch": {"expr": "scaling.num_workers * 8"},
            "scaling.num_workers": {"choice": [1, 2]},
            "training.warmup": {"expr": "training.steps // 10", "when": {"scaling.num_workers": 2}},
        }
    )
    base = {"training": {"epochs": 3, "batch": 99}, "data": {"size": 100}, "scaling": {"num_workers": 7}}
    made = {"scaling.num_workers": 2, "training.steps": 18, "training.batch": 16, "training.warmup": 1}
    assert space.complete({"scaling.num_workers": 2}, base) == made
    assert space.complete({"scaling.num_workers": 1}, base) == {
        "scaling.num_workers": 1,
        "training.steps": 37,
        "training.batch": 8,
    }
    with pytest.raises(ConfigError) as error:
        space.complete({"scaling.num_workers": 1}, {"training": {"epochs": 3}})
    problem = error.value.problems[0]
    assert problem.setting == "training.steps"
    assert "data.size is None" in problem.reason


def test_importing_it_imports_nothing_slow() -> None:
    code = (
        "import sys, raytrainer.sweep.space; assert not {'ray', 'optuna', 'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
