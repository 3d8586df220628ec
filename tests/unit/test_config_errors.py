"""What is wrong with a config is said at once: where, what was seen, why, what instead."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrainer.cli import main
from raytrainer.config.loading import load_config
from raytrainer.errors import ConfigError
from tests.unit.config_rows import CLASSES, ENVIRONMENT, GOOD, ROWS, config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", ROWS)
def test_one_mistake_is_one_problem(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = ROWS[name]
    file = row.write(tmp_path)
    before = sorted(os.listdir())
    with pytest.raises(ConfigError) as error:
        load_config(file, row.overrides)
    assert len(error.value.problems) == 1, str(error.value)
    problem = error.value.problems[0]
    assert problem.setting == row.setting
    assert row.reason in problem.reason
    assert row.fix in problem.fix
    assert row.seen in (None, repr(problem.value))
    assert "hush" not in str(error.value)
    assert main(["train", file, *row.overrides]) == 2
    assert capsys.readouterr() == ("", f"raytrainer train: {error.value}\n")
    assert sorted(os.listdir()) == before


# Nothing slow may be imported for any of them.
ALL_ROWS = """
import os, sys
from raytrainer.cli import main
sys.path.insert(0, sys.argv[2])
from tests.unit.config_rows import ROWS

for number, (name, row) in enumerate(ROWS.items()):
    os.chdir(os.path.join(sys.argv[1], str(number)))
    file = "file/run.yaml" if row.made == "below a file" else "run.yaml"
    before = sorted(os.listdir())
    assert main(["train", file, *row.overrides]) == 2, name
    assert sorted(os.listdir()) == before, name
slow = {"torch", "ray", "transformers", "peft", "pyarrow", "numpy", "mlflow", "datasets"} & set(sys.modules)
assert not slow, slow
"""


def test_no_mistake_needs_anything_slow(tmp_path: Path) -> None:
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
    assert done.stderr.count("raytrainer train: ") == len(ROWS)
    assert done.stderr.count("\n  Instead: ") == len(ROWS)


def test_mistakes_that_have_nothing_to_do_with_each_other_are_told_together(tmp_path: Path) -> None:
    lines = {"scaling": "scaling: {num_workers: 0}", "run": "run: {kep: 1}", "precision": "precision: bf32"}
    bad = config(**lines, data="data: {train: 5, source: a, target: a}", training="training: {max_steps: 0, lr: 1}")
    (tmp_path / "run.yaml").write_text(bad)
    with pytest.raises(ConfigError) as error:
        load_config("run.yaml", ["mlflow.experiment=${RAYTRAINER_UNSET}", "name=", "loss_scale=mine"])
    found = {problem.setting.partition(" ")[0] for problem in error.value.problems}
    assert found == {
        *("mlflow.experiment", "setting", "loss_scale", "scaling.num_workers", "run.kep", "precision"),
        *("data.train", "data.target", "training.lr", "training.max_steps"),
    }


def test_what_has_no_kind_is_checked_as_far_as_can_be(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(config(task="task: seq2sec", scaling="scaling: {num_workers: 0}"))
    with pytest.raises(ConfigError) as error:
        load_config("run.yaml")
    assert [problem.setting for problem in error.value.problems] == [
        "task (run.yaml:2:1)",
        "scaling.num_workers (run.yaml:6:11)",
    ]


def test_the_value_of_a_secret_variable_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "12345")
    path = tmp_path / "run.yaml"
    path.write_text(config(training="training:\n  hub_token: ${MY_TOKEN}"))
    with pytest.raises(ConfigError) as raised:
        load_config(str(path))
    assert "training.hub_token" in str(raised.value) and "12345" not in str(raised.value)


def test_a_good_config_has_no_problem(tmp_path: Path) -> None:
    """The rows differ from it in one line, so each problem is that line's."""
    (tmp_path / "run.yaml").write_text(config())
    assert load_config("run.yaml").config.name == "dates"
    assert list(GOOD) == [*load_config("run.yaml").values]


def _places(values: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(key,) for key in values] + [
        (key, *below) for key, inner in values.items() if isinstance(inner, dict) for below in _places(inner)
    ]


GOOD_VALUES = {kind: yaml.safe_load(config(lines)) for kind, lines in {"seq2seq": GOOD, "classes": CLASSES}.items()}
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "text", "steps", "$", "${X:-1}"])
)
KEYS = st.sampled_from(["min", "max", "kind", "name", "train", "x"]) | st.integers()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@given(data=st.data(), kind=st.sampled_from(sorted(GOOD_VALUES)))
@settings(max_examples=100)
def test_whatever_a_config_says_there_is_no_other_error(data: st.DataObject, kind: str, tmp_path: Path) -> None:
    values = copy.deepcopy(GOOD_VALUES[kind])
    values |= {"metrics": ["bleu"]} if kind == "seq2seq" else {}
    of_rules = [("training", name) for name in ("eval_steps", "eval_strategy", "save_steps", "max_steps", "bf16")]
    of_rules += [
        ("data", "filter"),
        ("data", "labels"),
        ("data", "text_pair"),
        ("model", "name"),
        ("run", "keep"),
    ]
    for place in data.draw(st.lists(st.sampled_from(_places(values) + of_rules), min_size=1, max_size=3)):
        below = values
        for key in place[:-1]:
            below = below[key] if isinstance(below.get(key), dict) else below.setdefault("more", {})
        below[data.draw(st.just(place[-1]) | KEYS)] = data.draw(ANYTHING)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    try:
        load_config("run.yaml")
    except ConfigError as error:
        told = [problem.setting for problem in error.problems]
        assert len(told) == len(set(told)), str(error)
