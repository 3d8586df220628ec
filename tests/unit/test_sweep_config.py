"""A sweep's file: loaded, checked before anything starts, and written so that it loads again."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrainer.config.setting import seconds
from raytrainer.config.sweep import SweepLoaded, load_sweep
from raytrainer.config.sweep_file import SCHEDULERS, SEARCHES
from raytrainer.errors import ConfigError
from tests.unit.config_rows import config
from tests.unit.sweep_rows import EVALUATED, OWN, ROWS, SCRIPT, SWEEP
from tests.unit.test_shipped_configs import AS_DESIGNED

ROOT = Path(__file__).parents[2]
DESIGNED = """
base: run.yaml
search_space:
  training.learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
  training.per_device_train_batch_size: {choice: [16, 32, 64]}
tune: {metric: eval_exact_match, mode: max, num_samples: 20, search: {optuna: {}},
       scheduler: {asha: {grace_period: 100}}, max_concurrent_trials: auto, budget: {time: 30m}}
"""


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def load(sweep: str, base: dict[str, str] = EVALUATED, *overrides: str) -> SweepLoaded:
    Path("run.yaml").write_text(config(base))
    Path("sweep.yaml").write_text(sweep)
    return load_sweep("sweep.yaml", overrides)


def swept(*keys: str, tune: str = SWEEP["tune"]) -> str:
    return "\n".join(["base: run.yaml", "search_space:", *(f"  {key}" for key in keys), tune, ""])


@pytest.mark.parametrize("name", ROWS)
def test_one_mistake_is_one_problem(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    row.write(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_sweep("sweep.yaml", row.overrides)
    assert len(error.value.problems) == 1, str(error.value)
    problem = error.value.problems[0]
    assert problem.setting == row.setting
    assert row.reason in problem.reason
    assert row.fix in problem.fix


def test_mistakes_that_have_nothing_to_do_with_each_other_are_told_together() -> None:
    keys = ["training.lr_scheduler_type: {choice: [linear, cosin]}", "training.max_stebs: {randint: [1, 2]}"]
    keys += ["training.weight_decay: {uniform: [1, 0]}", "training.learning_rate: {uniform: [-1, 1]}"]
    tune = "tune: {metric: eval_loss, mode: less, search: optnua, num_samples: 2}"
    with pytest.raises(ConfigError) as error:
        load(swept(*keys, tune=tune), {**EVALUATED, "scaling": "scaling: {num_workers: 0}"})
    assert {problem.setting.partition(" ")[0] for problem in error.value.problems} == {
        *("training.lr_scheduler_type", "search_space.training.max_stebs", "training.learning_rate"),
        *("search_space.training.weight_decay.uniform[1]", "tune.mode", "tune.search", "scaling.num_workers"),
    }


def test_the_sweep_as_designed() -> None:
    Path("run.yaml").write_text(AS_DESIGNED)
    Path("sweep.yaml").write_text(DESIGNED)
    loaded = load_sweep("sweep.yaml")
    assert loaded.name == "dates-en-de-sweep"
    assert [(one.key, one.kind, one.ends) for one in loaded.space.parameters] == [
        ("training.learning_rate", "loguniform", (1e-4, 1e-2)),
        ("training.per_device_train_batch_size", "choice", (16, 64)),
    ]
    assert (loaded.tune.searching, loaded.tune.scheduling) == (("optuna", {}), ("asha", {"grace_period": 100}))
    assert (loaded.tune.budget.seconds, loaded.tune.seed, loaded.tune.max_concurrent_trials) == (1800, 42, "auto")
    assert loaded.base["run"]["storage_path"] == "runs"
    values = {"training.learning_rate": 2e-4, "training.per_device_train_batch_size": 64}
    made = loaded.trial_config(values)
    assert made.training["learning_rate"] == 2e-4
    assert made.training["max_steps"] == 1000
    assert made.name == loaded.name


def test_what_a_sweep_that_has_begun_keeps_to_is_named() -> None:
    begun = load(config(SWEEP)).yaml().encode()

    def others(*overrides: str) -> list[str]:
        return load(config(SWEEP), EVALUATED, *overrides).of_other_trials(begun)

    free = ["num_samples=40", "max_concurrent_trials=2", "keep=3", "budget={time: 2h, patience: 5}"]
    assert others("training.max_steps=7", *(f"tune.{setting}" for setting in free)) == []
    assert others("tune.seed=1", "tune.search=optuna") == ["tune.search", "tune.seed"]
    assert others("search_space.training.weight_decay={choice: [0.1]}") == ["search_space.training.weight_decay"]


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_loads(name: str) -> None:
    assert load(config(SWEEP), EVALUATED, f"tune.search={{{name}: {{a: 1}}}}").tune.searching == (name, {"a": 1})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_loads(name: str) -> None:
    assert load(config(SWEEP), EVALUATED, f"tune.scheduler={name}").tune.scheduling == (name, {})


@pytest.mark.parametrize(
    ("text", "number"), [("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("1h1m1s", 3661)]
)
def test_times(text: str, number: float) -> None:
    assert seconds(text) == number
    assert load(config(SWEEP), EVALUATED, f"tune.budget.time={text}").tune.budget.seconds == number


def test_the_name_is_the_one_in_the_sweep_s_own_file() -> None:
    assert load(config(SWEEP)).name == "dates-sweep"
    assert load(config(SWEEP, name="name: rates")).name == "rates"
    assert load(config(SWEEP), EVALUATED, "name=mine").name == "mine"
    with pytest.raises(ConfigError, match="128 at most"):
        load(config(SWEEP), {**EVALUATED, "name": f"name: {'a' * 126}"})


def test_a_sweep_may_have_the_run_s_settings_itself() -> None:
    lines = {**EVALUATED, **SWEEP}
    del lines["base"]
    loaded = load(config(lines))
    assert (loaded.name, loaded.base["training"]["max_steps"]) == ("dates", 100)
    assert load(config(SWEEP, training="training: {max_steps: 7}")).base["training"]["max_steps"] == 7


def test_the_command_line_comes_last() -> None:
    loaded = load(
        config(SWEEP),
        EVALUATED,
        *("tune.num_samples=7", "training.max_steps=9", "search_space.training.seed={randint: [0, 9]}"),
        *("search_space.training.learning_rate={uniform: [0, 1]}", "search_space.training.weight_decay=null"),
        "search_space.training.seed.randint=[0, 5]",
    )
    assert loaded.tune.num_samples == 7
    assert loaded.base["training"]["max_steps"] == 9
    assert [(one.key, one.kind, one.ends) for one in loaded.space.parameters] == [
        ("training.learning_rate", "uniform", (0, 1)),
        ("training.seed", "randint", (0, 4)),
    ]


def test_a_sweep_builds_on_another_one() -> None:
    Path("other.yaml").write_text(config(SWEEP))
    keys = "search_space: {training.learning_rate: {loguniform: null, choice: [0.1]}, training.weight_decay: null}"
    loaded = load(f"base: other.yaml\n{keys}\ntune: {{seed: 1}}\n")
    assert [(one.key, one.kind) for one in loaded.space.parameters] == [("training.learning_rate", "choice")]
    assert (loaded.tune.seed, loaded.tune.num_samples) == (1, 4)


def test_values_of_every_place_of_a_config() -> None:
    keys = ["scaling.num_workers: {choice: [1, 2, [1, 2]]}", "precision: {choice: [fp32, auto]}"]
    keys += ["model.peft.r: {choice: [4, 8]}", "data.max_length: {qrandint: [16, 64, 16]}"]
    keys += ["model.from_config.d_model: {choice: [32, 64]}", "params.dropout: {uniform: [0, 1]}"]
    keys += ["model.from_config.dropout_rate: {expr: params.dropout / 2}"]
    loaded = load(swept(*keys))
    values = {"scaling.num_workers": [1, 2], "model.peft.r": 8, "data.max_length": 48, "params.dropout": 0.5}
    made = loaded.trial_config({**values, "model.from_config.d_model": 32, "precision": "fp32"})
    assert (made.scaling.num_workers, made.model.peft["r"], made.data.max_length) == ([1, 2], 8, 48)
    assert (made.model.from_config["d_model"], made.model.from_config["model_type"]) == (32, "t5")
    assert made.precision == "fp32"
    with pytest.raises(ConfigError) as error:
        loaded.trial_config({"data.max_length": 0})
    assert error.value.problems[0].setting == "data.max_length (in this trial)"


def test_a_trainer_of_the_user_s_own_takes_anything_below_model_and_data() -> None:
    loaded = load(swept("model.layers: {choice: [[1], [2, 3]]}", "data.share: {uniform: [0, 1]}"), OWN)
    assert loaded.trial_config({"model.layers": [2, 3], "data.share": 0.5}).model == {"layers": [2, 3]}


def test_a_script_gets_flags() -> None:
    base = {**SCRIPT, "args": "args: [data.csv, --learning_rate, '1']"}
    keys = ["training.learning_rate: {loguniform: [1e-5, 1e-3]}", "params.label-names: {choice: [[a, b], null]}"]
    loaded = load(swept(*keys, "scaling.num_workers: {choice: [1, 2]}", "training.bf16: {choice: [true, false]}"), base)
    values: dict[str, Any] = {"training.learning_rate": 1e-5, "training.bf16": False, "scaling.num_workers": 2}
    made = loaded.trial_config({**values, "params.label-names": ["a", "b"]})
    assert made.scaling.num_workers == 2
    assert made.args[:3] == ["data.csv", "--learning_rate", "1"]
    assert made.args[3:] == ["--learning_rate", "1e-05", "--bf16", "False", "--label-names", "a", "b"]
    assert loaded.trial_config({"params.label-names": None, "training.x": -1e-5}).args[3:] == ["--x=-1e-05"]
    assert loaded.base["args"] == ["data.csv", "--learning_rate", "1"]


def test_flags_are_read_by_transformers_parser() -> None:
    from dataclasses import dataclass, field

    from transformers import HfArgumentParser

    from raytrainer.config.sweep_values import flag

    @dataclass
    class Arguments:
        rate: float = 1.0
        on: bool = True
        words: list[str] = field(default_factory=list)
        table: str = ""

    given = {"rate": -1e-5, "on": False, "words": ["a", "b"], "table": {"a": [1]}}
    words = [word for name, value in given.items() for word in flag(name, value)]
    # transformers reads __future__ annotations of module-level classes only.
    Arguments.__annotations__ = {"rate": float, "on": bool, "words": list[str], "table": str}
    for name, one in Arguments.__dataclass_fields__.items():
        one.type = Arguments.__annotations__[name]
    (made,) = HfArgumentParser(Arguments).parse_args_into_dataclasses(words)
    assert (made.rate, made.on, made.words, made.table) == (-1e-5, False, ["a", "b"], '{"a": [1]}')


def test_what_only_the_sweep_sets_may_be_missing_in_the_base() -> None:
    base = {**EVALUATED, "model": "model: {tokenizer: words}"}
    loaded = load(swept("model.name: {choice: [a, b]}"), base)
    assert "name" not in loaded.base["model"]
    assert loaded.trial_config({"model.name": "b"}).model.name == "b"
    assert same_again(loaded)
    with pytest.raises(ConfigError, match="nothing says which model"):
        load(swept("model.name: {choice: [a, b]}"), base, "tune.baseline=true")


def test_a_value_is_checked_under_its_condition() -> None:
    """Prefetching is wrong where no process loads data, and so it is in the base."""
    condition = "when: {training.dataloader_num_workers: [2, 4]}"
    keys = ["training.dataloader_num_workers: {choice: [0, 2, 4]}"]
    loaded = load(swept(*keys, f"training.dataloader_prefetch_factor: {{choice: [2, 4], {condition}}}"))
    assert loaded.space.complete(
        {"training.dataloader_num_workers": 0, "training.dataloader_prefetch_factor": 2}, {}
    ) == {"training.dataloader_num_workers": 0}
    with pytest.raises(ConfigError, match="dataloader_num_workers is 0"):
        load(swept(*keys, "training.dataloader_prefetch_factor: {choice: [2, 4]}"))


def test_an_expression_knows_the_base_and_transformers_defaults() -> None:
    text = "256 // (scaling.num_workers * training.per_device_train_batch_size)"
    keys = ["scaling.num_workers: {choice: [1, 2]}", f"training.gradient_accumulation_steps: {{expr: {text}}}"]
    loaded = load(swept(*keys))
    assert loaded.space.complete({"scaling.num_workers": 2}, loaded.base) == {
        "scaling.num_workers": 2,
        "training.gradient_accumulation_steps": 16,
    }
    loaded = load(swept(*keys), EVALUATED, "training.per_device_train_batch_size=64")
    assert loaded.space.complete({"scaling.num_workers": 2}, loaded.base)["training.gradient_accumulation_steps"] == 2


def same_again(loaded: SweepLoaded) -> bool:
    Path("again.yaml").write_text(loaded.yaml())
    again = load_sweep("again.yaml")
    return again == loaded and again.yaml() == loaded.yaml()


@pytest.mark.parametrize("base", [EVALUATED, OWN, SCRIPT], ids=["task", "trainer", "script"])
def test_a_resolved_sweep_is_the_same_again(base: dict[str, str]) -> None:
    keys = ["training.seed: {choice: [1, 2]}", "training.adam_beta1: {uniform: [0, 0.9], when: {training.seed: 1}}"]
    keys += ["params.text: {grid: [on, '1e-3', $5, null, true]}", "params.x: {expr: training.seed // 2}"]
    keys = [key.replace("params.", "model.from_config." if "task" in base else "params.") for key in keys]
    tune = "tune: {metric: [eval_loss, a], mode: [min, max], points: [{training.seed: 2}], budget: {time: 1h}}"
    loaded = load(swept(*keys, tune=tune), base)
    assert same_again(loaded)
    assert "base:" not in loaded.yaml()


def test_an_error_does_not_tell_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hush")
    with pytest.raises(ConfigError) as error:
        load(swept("training.optim: {choice: [sgd, '${MY_KEY}']}"))
    assert "hush" not in str(error.value)
    assert "${MY_KEY}" in str(error.value)


def test_a_loaded_sweep_travels() -> None:
    loaded = load(config(SWEEP))
    again = pickle.loads(pickle.dumps(loaded))
    assert again == loaded
    assert again.trial_config({"training.seed": 3}) == loaded.trial_config({"training.seed": 3})


def test_a_secret_stays_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hush")
    base = {**OWN, "mlflow": "mlflow: {tracking_uri: 'http://me:${HUB_TOKEN}@db'}"}
    loaded = load(swept("params.key: {choice: ['${HUB_TOKEN}', b]}"), base)
    assert loaded.space.parameters[0].values == ("hush", "b")
    assert "hush" not in loaded.yaml()
    assert same_again(loaded)


SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.sampled_from(["", "asha", "1 // 0", "${X}"])
)
NAMES = ["choice", "uniform", "qrandint", "expr", "when", "training.seed", "params.x", "optuna", "time", "x", ""]
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.integers(), inner, max_size=3)
    ),
)
FULL = {
    "base": "run.yaml",
    "search_space": {
        "training.seed": {"choice": [1, 2]},
        "training.adam_beta1": {"uniform": [0, 0.9], "when": {"training.seed": 1}},
        "training.max_steps": {"qrandint": [10, 100, 10]},
        "data.max_length": {"expr": "training.seed * 2"},
    },
    "tune": {"metric": ["eval_loss"], "mode": "min", "num_samples": 3, "search": {"optuna": {}}, "points": [{}]},
}


def _places(values: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(key,) for key in values] + [
        (key, *below) for key, inner in values.items() if isinstance(inner, dict) for below in _places(inner)
    ]


def test_what_is_broken_below_loads() -> None:
    assert len(load(yaml.safe_dump(FULL)).space.parameters) == 3


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_a_sweep_says_there_is_no_other_error(data: st.DataObject) -> None:
    values = copy.deepcopy(FULL)
    more = [("search_space", "training.max_steps"), ("tune", "budget"), ("tune", "scheduler"), ("search_space", "data")]
    for place in data.draw(st.lists(st.sampled_from(_places(FULL) + more), min_size=1, max_size=3)):
        below: Any = values
        for key in place[:-1]:
            below = below[key] if isinstance(below.get(key), dict) else below.setdefault("more", {})
        below[place[-1]] = data.draw(ANYTHING)
    try:
        loaded = load(yaml.safe_dump(values))
    except ConfigError as error:
        told = [problem.setting for problem in error.problems]
        assert len(told) == len(set(told)), str(error)
    else:
        assert same_again(loaded)


ALL_ROWS = """
import os, sys
from raytrainer.config.sweep import load_sweep
from raytrainer.errors import ConfigError
from raytrainer.sweep.space import Space
sys.path.insert(0, sys.argv[2])
from tests.unit.sweep_rows import ROWS, SWEEP, EVALUATED, config

for number, (name, row) in enumerate(ROWS.items()):
    os.chdir(os.path.join(sys.argv[1], str(number)))
    try:
        load_sweep("sweep.yaml", row.overrides)
    except ConfigError:
        continue
    raise AssertionError(name)
open("run.yaml", "w").write(config(EVALUATED))
open("sweep.yaml", "w").write(config(SWEEP))
loaded = load_sweep("sweep.yaml")
Space.of(loaded.space).clamp({"training.learning_rate": 3})
loaded.trial_config({"training.learning_rate": 1e-3})
loaded.yaml()
slow = {"torch", "ray", "transformers", "optuna", "peft", "pyarrow", "numpy", "mlflow", "datasets"} & set(sys.modules)
assert not slow, slow
"""


def test_loading_needs_nothing_slow(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS.values()):
        (tmp_path / str(number)).mkdir()
        row.write(tmp_path / str(number))
    done = subprocess.run(
        [sys.executable, "-c", ALL_ROWS, str(tmp_path), str(ROOT)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
