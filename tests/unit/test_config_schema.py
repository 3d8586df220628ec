"""The JSON schema of configs, as an editor applies it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from raytrainer.cli import main
from raytrainer.config.hosted import KINDS, RESERVED, training_fields
from raytrainer.config.yaml_file import read_file
from raytrainer.config.yaml_values import parse
from tests.unit import sweep_rows
from tests.unit.config_rows import CLASSES, RANGES, SPELLING, TYPES, config
from tests.unit.sweep_rows import SWEEP
from tests.unit.test_config import KEPT

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Draft202012Validator:
    path = tmp_path_factory.mktemp("schema") / "schema.json"
    assert main(["schema", "--output", str(path)]) == 0
    made = json.loads(path.read_text())
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Draft202012Validator:
    path = tmp_path_factory.mktemp("schema") / "sweep.json"
    assert main(["schema", "--sweep", "--output", str(path)]) == 0
    made = json.loads(path.read_text())
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def mistakes(schema: Draft202012Validator, text: str | bytes) -> list[Any]:
    return list(schema.iter_errors(parse(text if isinstance(text, str) else text.decode(), "x").plain()))


def test_it_is_printed(schema: Draft202012Validator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema


def test_a_file_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "-o", "/no/such/folder/schema.json"]) == 2
    assert "raytrainer schema: --output = '/no/such/folder/schema.json': it cannot be" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_config_passes(kind: str, schema: Draft202012Validator) -> None:
    task = "" if kind in ("trainer", "script") else f"task: {kind}\n"
    assert mistakes(schema, f"name: a\n{task}{KEPT[kind]}\n") == []


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_an_example_passes(path: Path, schema: Draft202012Validator) -> None:
    assert list(schema.iter_errors(read_file(str(path)).plain())) == []


@pytest.mark.parametrize(
    "text",
    [
        config(
            training="training: {max_steps: '${STEPS}', optim: '${OPTIM:-sgd}'}", scaling="scaling: {use_gpu: '${GPU}'}"
        ),
        "base: run.yaml\ntraining: {max_steps: 5}\n",
        "base: [run.yaml, site.yaml]\nscaling: {num_workers: 5}\n",
        "base: run.yaml\ntask: seq2seq\ndata: {max_length: 5}\n",
    ],
)
def test_a_variable_and_a_part_pass(text: str, schema: Draft202012Validator) -> None:
    assert mistakes(schema, text) == []


WRONG = {
    **{f"spelling: {name}": row for name, row in SPELLING.items()},
    # In JSON 1000.0 is a whole number, every number is a number, and every key is text.
    **{f"type: {name}": row for name, row in TYPES.items() if name not in ("float as int", "number as column")},
    **{f"range: {name}": row for name, row in RANGES.items() if name != "not a number"},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_one_setting_an_editor_sees(name: str, schema: Draft202012Validator) -> None:
    assert mistakes(schema, WRONG[name].text)


@pytest.mark.parametrize(
    "text",
    [
        config(name=None),
        config(data="data: {eval: a}"),
        config(task=None),
        "base: run.yaml\nscaling: {num_worker: 5}\n",
        "base: run.yaml\ntrainin: {}\n",
        config(training="training: {max_steps: 'a ${STEPS}'}"),
    ],
)
def test_what_is_missing_or_wrong_in_a_part_an_editor_sees(text: str, schema: Draft202012Validator) -> None:
    assert mistakes(schema, text)


def test_training_lists_the_fields_that_are_installed(schema: Draft202012Validator) -> None:
    parts = schema.schema["$defs"]
    for name, seq2seq in (("TrainingArguments", False), ("Seq2SeqTrainingArguments", True)):
        assert parts[name]["additionalProperties"] is False
        assert parts[name]["properties"].keys() == training_fields(seq2seq).keys() - RESERVED.keys()
    rate = parts["TrainingArguments"]["properties"]["learning_rate"]
    assert rate["default"] == training_fields(False)["learning_rate"].default
    assert rate["description"] == training_fields(False)["learning_rate"].help
    assert mistakes(schema, config(CLASSES, training="training: {generation_num_beams: 2}"))


def test_settings_are_described(schema: Draft202012Validator) -> None:
    parts = schema.schema["$defs"]
    for name in ("Scaling", "Storage", "Keep", "MLflow", "Seq2SeqData", "Model"):
        for setting, said in parts[name]["properties"].items():
            assert said.get("description"), (name, setting)


# sweeps


@pytest.mark.parametrize(
    "text",
    [
        config(SWEEP),
        config({**CLASSES, **SWEEP}, base=None),
        config(SWEEP, key="  params.x: {expr: scaling.num_workers * 2, when: {training.learning_rate: 1}}"),
        config(SWEEP, tune="tune: {metric: [a, b], mode: [min, max], search: {optuna: {seed: 1}}, budget: {time: 1h}}"),
        config(SWEEP, tune="tune: {metric: a, mode: min, num_samples: '${N:-3}'}"),
        "base: sweep.yaml\ntune: {seed: 5}\n",
    ],
)
def test_a_sweep_passes(text: str, sweeps: Draft202012Validator, schema: Draft202012Validator) -> None:
    assert mistakes(sweeps, text) == []
    assert mistakes(schema, text)


SWEPT_WRONG = {
    **{
        f"range: {name}": row
        for name, row in sweep_rows.RANGES.items()
        if name in ("unknown kind", "list", "no choice")
    },
    **{f"tune: {name}": sweep_rows.TUNE[name] for name in ("mode", "unknown", "time", "hours", "scope", "options")},
}


@pytest.mark.parametrize("name", SWEPT_WRONG)
def test_what_is_wrong_with_a_sweep_an_editor_sees(name: str, sweeps: Draft202012Validator) -> None:
    assert mistakes(sweeps, SWEPT_WRONG[name].files["sweep.yaml"])


def test_a_sweep_without_a_base_is_whole(sweeps: Draft202012Validator) -> None:
    assert mistakes(sweeps, config({**CLASSES, **SWEEP}, base=None, tune=None))
    assert mistakes(sweeps, config({**CLASSES, **SWEEP}, base=None, model=None))


def test_a_sweep_s_settings_are_described(sweeps: Draft202012Validator) -> None:
    parts = sweeps.schema["$defs"]
    for name in ("Swept", "Tune", "Budget"):
        for setting, said in parts[name]["properties"].items():
            assert said.get("description"), (name, setting)
