"""A config, loaded: its values, what it builds on, variables, the command line; and written so that it runs again."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raytrainer.config.hosted import KINDS
from raytrainer.config.loading import load_config
from raytrainer.config.resolved import resolved_yaml
from raytrainer.config.schema import OwnTrainer
from raytrainer.config.variables import put_in
from raytrainer.config.yaml_values import parse
from raytrainer.errors import ConfigError
from tests.unit.config_rows import config

KEPT: dict[str, str] = {
    "text-classification": "model: {name: bert}\ndata: {train: a.csv, label: [a, b], filter: {a: {not: ''}}}",
    "token-classification": "model: {name: bert}\ndata: {train: [a.json, b.json], label_all_tokens: true}",
    "causal-lm": "model: {name: llama, peft: {r: 8}}\ndata: {train: '*.txt', max_samples: {train: 5}}",
    "masked-lm": "model: {name: bert, dtype: bfloat16}\ndata: {hub: a/b, train: 'train[:10%]', eval: 500}",
    "seq2seq": "model: {name: t5}\ndata: {train: a.csv, prefix: 'sum: '}\nmetrics: [wer]\n"
    "training: {predict_with_generate: true, learning_rate: 1e-4}",
    "image-classification": "model: {name: vit}\ndata: {train: pictures, format: imagefolder}\nprecision: bf16",
    "trainer": "trainer: my.module:build\nmodel: {layers: [1, {a: null}]}\nglobal_train_batch_size: 64",
    "script": "script: train.py\nargs: [--rate, '1e-3', '$$HOME', 'on', '12:30']\nmlflow: null",
}


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return name


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-3", 1e-3), ("3.0e-3", 3e-3), (".5", 0.5), ("5.", 5.0), ("-1", -1), ("+7", 7), ("007", 7), ("1E4", 1e4)],
        *[("0o17", 15), ("0x1F", 31), ("017", 17), (".inf", math.inf), ("-.INF", -math.inf), ("1_000", "1_000")],
        *[("true", True), ("False", False), ("null", None), ("~", None), ("", None)],
        *[
            ("on", "on"),
            ("yes", "yes"),
            ("No", "No"),
            ("y", "y"),
            ("12:30:45", "12:30:45"),
            ("2026-11-22", "2026-11-22"),
        ],
        *[
            ("'1'", "1"),
            ('"null"', "null"),
            ("!!str 1", "1"),
            ("!!float 1", 1.0),
            ("=", "="),
            ("1e", "1e"),
            ("e3", "e3"),
        ],
        *[("[2, 8]", [2, 8]), ("{a: {b: [c]}}", {"a": {"b": ["c"]}}), ("{1: a}", {1: "a"}), ("|\n a\n b\n", "a\nb\n")],
        ("{a: &a {x: 1, y: 2}, b: {<<: *a, y: 3}}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("{a: &a {x: 1}, b: &b {x: 2, z: 2}, c: {<<: [*a, *b]}}", None),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = parse(f"key: {text}\n", "x").plain()["key"]
    if text.endswith("[*a, *b]}}"):
        read, value = read["c"], {"x": 1, "z": 2}
    assert (read, type(read)) == (value, type(value))


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(parse("[.nan]", "x").plain()[0])


def test_a_byte_order_mark_is_no_mistake() -> None:
    Path("run.yaml").write_bytes(b"\xef\xbb\xbf" + config().encode())
    assert load_config("run.yaml").values["name"] == "dates"


# base


def test_a_config_builds_on_another_one_beside_it() -> None:
    write("base/below.yaml", config(scaling="scaling: {num_workers: 4, use_gpu: true}", run="run: {max_failures: 3}"))
    write("base/a.yaml", "base: below.yaml\nname: a\nscaling: {num_workers: 8}\nmodel: {tokenizer: words}\n")
    write("b.yaml", "data: {train: [b.jsonl]}\nname: b\n")
    write("run.yaml", "base: [base/a.yaml, b.yaml]\ntraining: {max_steps: 5}\n")
    values = load_config("run.yaml").values
    assert "base" not in values
    assert values["name"] == "b"
    assert values["scaling"] == {"num_workers": 8, "use_gpu": True}
    assert values["run"] == {"max_failures": 3}
    assert values["model"]["tokenizer"] == "words"
    assert values["model"]["from_config"] == {"model_type": "t5", "d_model": 64}
    assert values["data"] == {"train": ["b.jsonl"], "eval": "eval.jsonl", "source": "text", "target": "iso"}
    assert values["training"] == {"learning_rate": 3e-3, "max_steps": 5, "predict_with_generate": True}


def test_a_file_may_be_built_on_twice() -> None:
    write("below.yaml", config())
    write("a.yaml", "base: below.yaml\nname: a\n")
    write("run.yaml", "base: [below.yaml, a.yaml]\n")
    assert load_config("run.yaml").values["name"] == "a"


def test_what_is_below_is_taken_away_with_null() -> None:
    write("below.yaml", config())
    write("run.yaml", "base: below.yaml\nmodel: {from_config: null, name: t5, tokenizer: null}\nmlflow: null\n")
    loaded = load_config("run.yaml")
    assert (loaded.config.model.name, loaded.config.model.from_config) == ("t5", None)
    assert loaded.config.mlflow is None


def test_a_base_may_stand_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE", "x")
    write("site/x.yaml", config())
    write("run.yaml", "base: site/${SITE}.yaml\nname: y\n")
    assert load_config("run.yaml").values["run"] == {"storage_path": "runs", "keep": {"last": 2}}


# the command line


def test_the_command_line_comes_last() -> None:
    write("run.yaml", config())
    overrides = ["training.learning_rate=1e-4", "scaling.num_workers=[2, 8]", "run.keep={last: 5}", "mlflow=null"]
    overrides += [
        "training.optim_args='a=b'",
        "data.prefix=",
        'data.prefix="a b"',
        "name=a",
        "name=b",
        "precision=fp32",
    ]
    overrides.remove("data.prefix=")
    values = load_config("run.yaml", overrides).values
    assert values["training"]["learning_rate"] == 1e-4
    assert values["training"]["optim_args"] == "a=b"
    assert values["training"]["max_steps"] == 100
    assert values["scaling"] == {"num_workers": [2, 8]}
    assert values["run"] == {"storage_path": "runs", "keep": {"last": 5}}
    assert (values["mlflow"], values["name"], values["precision"]) == (None, "b", "fp32")
    assert values["data"]["prefix"] == "a b"


# variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("${STEPS}", 100),
            ("'${STEPS}'", "100"),
            ("${STEPS} steps", "100 steps"),
            ("${RATE}", 1e-3),
            ("${ON}", True),
        ],
        *[("$STEPS", "$STEPS"), ("$${STEPS}", "${STEPS}"), ("a$$b$", "a$b$"), ("$$$${STEPS}", "$${STEPS}")],
        *[("${NO:-7}", 7), ("${NO:-a b}", "a b"), ("${EMPTY:-7}", 7), ("${EMPTY}", None), ("x${EMPTY}y", "xy")],
        *[
            ("${NO:-}", None),
            ("'${NO:-}'", ""),
            ("${STEPS:-7}", 100),
            ("${NESTED}", "${STEPS}"),
            ("[a, '${WORD}']", None),
        ],
    ],
)
def test_variables(text: str, value: Any) -> None:
    environment = {"STEPS": "100", "RATE": "1e-3", "ON": "true", "EMPTY": "", "NESTED": "${STEPS}", "WORD": "b"}
    root, problems = put_in(parse(f"key: {text}\n", "x"), environment)
    assert not problems
    assert root.plain()["key"] == (["a", "b"] if text.startswith("[") else value)


# resolved


@pytest.mark.parametrize("kind", KINDS)
def test_a_resolved_config_is_the_same_again(kind: str) -> None:
    task = "" if kind in ("trainer", "script") else f"task: {kind}\n"
    first = load_config(write("run.yaml", f"name: a\n{task}{KEPT[kind]}\n"))
    again = load_config(write("resolved.yaml", first.yaml()))
    assert again.config == first.config
    assert again.yaml() == first.yaml()
    defaults = set(KINDS[kind].model_fields) - first.values.keys()
    assert defaults and defaults <= again.values.keys()


# Text that some YAML takes for something else, and any other that a file can hold.
TEXT = st.sampled_from(
    ["1e-3", "on", "null", "~", "", "0o7", "2026-11-22", "$", "${X}", "$$", "- a", "a: b", "# a"]
) | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(model=st.dictionaries(TEXT, VALUES, max_size=3), args=st.lists(TEXT, max_size=3), tag=TEXT)
def test_any_resolved_config_is_the_same_again(model: dict[str, Any], args: list[str], tag: str) -> None:
    common = {"name": "a", "mlflow": {"tags": {"tag": tag}}}
    for values in ({**common, "trainer": "a:b", "model": model}, {**common, "script": "a.py", "args": args}):
        kind = KINDS["trainer" if "trainer" in values else "script"]
        made = kind.model_validate(values)
        assert load_config(write("resolved.yaml", resolved_yaml(made))).config == made


def test_a_secret_stays_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hush$1")
    monkeypatch.setenv("SERVER", "db")
    lines = "mlflow: {tracking_uri: 'postgresql://me:${DB_PASSWORD}@${SERVER}/$$x', experiment: '${SERVER}'}"
    first = load_config(write("run.yaml", config(mlflow=lines)))
    assert first.config.mlflow.tracking_uri == "postgresql://me:hush$1@db/$x"
    text = first.yaml()
    assert "hush" not in text
    assert "postgresql://me:${DB_PASSWORD}@${SERVER}/$$x" in text
    assert "experiment: db" in text
    assert load_config(write("resolved.yaml", text)).config == first.config


@pytest.mark.parametrize("quoted", [True, False])
def test_a_secret_that_looks_like_a_number_stays_what_it_was(quoted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "123")
    text = "'${MY_TOKEN}'" if quoted else "${MY_TOKEN}"
    first = load_config(write("run.yaml", f"name: a\ntrainer: a:b\nmodel:\n  token: {text}\n"))
    assert first.config.model == {"token": "123" if quoted else 123}
    again = load_config(write("resolved.yaml", first.yaml()))
    assert again.config == first.config
    assert "123" not in first.yaml()


def test_the_name_of_a_kubernetes_secret_is_none() -> None:
    lines = (
        "kubernetes:\n  image: mine:1\n  storage: {secret: store}\n  mlflow: {secret: server, key: uri}\n"
        "  auth_secret: shared\n  env: {HUB: {secret: hub, key: token}, HF_TOKEN: abc}\n"
    )
    text = load_config(write("run.yaml", config() + lines)).yaml()
    names = yaml.safe_load(text)["kubernetes"]
    assert [names[each]["secret"] for each in ("storage", "mlflow")] == ["store", "server"]
    assert (names["auth_secret"], names["env"]["HUB"]["secret"]) == ("shared", "hub")
    assert names["env"]["HF_TOKEN"] == "${HF_TOKEN}"


def test_a_secret_default_is_none() -> None:
    """What stands in the file for all to see is not kept from the resolved one."""
    first = load_config(write("run.yaml", config(mlflow="mlflow: {experiment: '${MONKEY:-x}'}")))
    assert load_config(write("resolved.yaml", first.yaml())).config == first.config


def test_relative_paths_are_left_as_they_are() -> None:
    """They count from the folder where the command is started, whichever file says them."""
    write("base/below.yaml", config())
    write("run.yaml", "base: base/below.yaml\n")
    assert load_config("run.yaml").config.data.train == "train.jsonl"
    assert load_config("run.yaml").config.run.storage_path == "runs"


@pytest.mark.parametrize(
    "tagged",
    [
        "!!python/object/apply:os.mkdir [mark]",
        "!!python/object/new:os.mkdir [mark]",
        "!!python/object/apply:os.mkdir {args: [mark]}",
        "!!python/module:evil ''",
        "!!python/name:evil.build ''",
        "!evil [mark]",
    ],
)
def test_a_tag_runs_nothing(tagged: str) -> None:
    write("evil.py", "import os\nos.mkdir('mark')\ndef build(arguments): ...\n")
    for text in (f"name: {tagged}", f"trainer: evil:build\nmodel: {tagged}", f"base: {tagged}"):
        with pytest.raises(ConfigError):
            load_config(write("run.yaml", text))
    assert not Path("mark").exists()


def test_a_trainer_that_is_named_is_not_imported() -> None:
    write("evil.py", "import os\nos.mkdir('mark')\ndef build(arguments): ...\n")
    config = load_config(write("run.yaml", "name: a\ntrainer: evil:build")).config
    assert isinstance(config, OwnTrainer) and config.trainer == "evil:build"
    assert not Path("mark").exists() and "evil" not in sys.modules
