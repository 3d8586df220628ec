"""Whatever a config says, of whichever kind: it loads, and again from what it comes to, or its problems are told."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrainer.config.hosted import KINDS, checked
from raytrainer.config.loading import Loaded, load_config
from raytrainer.config.sweep import SweepLoaded, load_sweep
from raytrainer.config.sweep_parameter import Parameter
from raytrainer.errors import ConfigError, UserError
from raytrainer.launch.manifest import text
from tests.unit.kubernetes_schemas import all_mistakes
from tests.unit.manifest_configs import RUN, SWEEP, changed, made_of
from tests.unit.test_config import KEPT
from tests.unit.test_space import ranges

Path_ = tuple[str, ...]


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEVEN", "7")


def told(error: UserError) -> list[str]:
    """Return the settings that an error names; it says of each what was seen, why it is wrong, and what is right."""
    assert error.problems and str(error)
    assert all(problem.setting and problem.reason and problem.fix for problem in error.problems)
    return [problem.setting for problem in error.problems]


def is_the_same_again(loaded: Loaded | SweepLoaded) -> bool:
    text = loaded.yaml()
    Path("again.yaml").write_text(text, encoding="utf-8")
    again = load_sweep("again.yaml") if isinstance(loaded, SweepLoaded) else load_config("again.yaml")
    # Not a number is equal to nothing.
    return again.yaml() == text and (".nan" in text or isinstance(again, SweepLoaded) or again.config == loaded.config)


# Settings that are known, of every kind


def _below(part: dict[str, Any], definitions: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    members = part.get("anyOf", [part])
    for member in members:
        member = definitions[member["$ref"].rsplit("/", 1)[1]] if "$ref" in member else member
        for name, below in member.get("properties", {}).items():
            yield (*path, name), below
            yield from _below(below, definitions, (*path, name))


@cache
def settings_of(kind: str) -> dict[Path_, Any]:
    schema = checked(kind).model_json_schema(by_alias=True)
    return dict(_below(schema, schema.get("$defs", {})))


ODD_TEXT = [
    "",
    " ",
    "null",
    "1e-3",
    "on",
    "auto",
    "${SEVEN}",
    "${UNSET}",
    "${",
    "$$",
    "a: b",
    "- a",
    "# a",
    "\u2028",
    "ü",
    "..",
    "a/b",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(2**63), 2**63, 1e-320])
    | st.sampled_from(ODD_TEXT)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(SCALARS.filter(lambda key: key == key), inner, max_size=3)
    ),
    max_leaves=6,
)


def _fitting(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values of which most are right."""
    made: list[st.SearchStrategy[Any]] = [SCALARS]
    for member in part.get("anyOf", [part]):
        if "enum" in member or "const" in member:
            made.append(st.sampled_from(member.get("enum", [member.get("const")])))
        least = member.get("minimum", member.get("exclusiveMinimum", 0))
        kinds = {
            "boolean": st.booleans(),
            "integer": st.integers(int(least), int(least) + 9),
            "number": st.floats(0, 1),
            "string": st.sampled_from(["a", "steps", "epoch", "a.csv", "7"]),
            "array": st.lists(st.sampled_from(["a", "b", 1, 2]), max_size=3),
            "object": st.dictionaries(
                st.sampled_from(["a", "CPU", "train", "r"]), st.integers(1, 3) | st.just("a"), max_size=2
            ),
        }
        if member.get("type") in kinds:
            made.append(kinds[member["type"]])
    return st.one_of(made)


@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=100, derandomize=True)
def test_a_config_of_any_kind(data: st.DataObject, kind: str) -> None:
    task = {} if kind in ("trainer", "script") else {"task": kind}
    values: dict[str, Any] = {"name": "a", **task, **yaml.safe_load(KEPT[kind])}
    known = settings_of(kind)
    for place in data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=4)):
        below: Any = values
        for key in place[:-1]:
            below = below.setdefault(key, {}) if isinstance(below.get(key, {}), dict) else {}
        below[place[-1]] = data.draw(_fitting(known[place]) if data.draw(st.integers(0, 3)) else ANYTHING)
    Path("run.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    try:
        loaded = load_config("run.yaml")
    except ConfigError as error:
        settings_told = told(error)
        assert len(settings_told) == len(set(settings_told)), str(error)
    else:
        assert is_the_same_again(loaded)


# Files that are hardly YAML


TOKENS = [
    "name: a",
    "task: seq2seq",
    "trainer: a:b",
    "script: x",
    "base: run.yaml",
    "base: other.yaml",
    "model:",
    "data:",
]
TOKENS += [
    *"{}[]:,-?&*!|>'\"%@`#~\t ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    ": ",
    "&a",
    "*a",
    "<<: *a",
    "!!str",
    "!!python/name:os",
]
TOKENS += ["---", "...", "${", "}", "$$", "0x", "1e", ".inf", "null", "\ufeff", "\u2028", "\x85", "\x00", "ü", "😀"]


@given(parts=st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=20), more=st.binary(max_size=3))
@settings(max_examples=150, derandomize=True)
def test_a_file_of_anything(parts: list[str], more: bytes) -> None:
    Path("run.yaml").write_bytes("".join(parts).encode("utf-8", "surrogatepass") + more)
    for load in (load_config, load_sweep):
        try:
            load("run.yaml")
        except ConfigError as error:
            told(error)


@given(
    overrides=st.lists(
        st.text(max_size=6)
        | st.builds(
            "{}{}{}".format,
            st.sampled_from(
                [
                    "name",
                    "training",
                    "training.max_steps",
                    "model.layers",
                    "search_space.a.b",
                    "base",
                    "..",
                    "model.",
                    "run.keep.last",
                ]
            ),
            st.sampled_from(["=", "==", " = ", ""]),
            st.sampled_from(ODD_TEXT)
            | st.sampled_from(["{a: 1}", "[1, 2", "&a", "*a", "|", "{a: *b}", "7"])
            | st.text(max_size=5),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=100, derandomize=True)
def test_a_command_line_of_anything(overrides: list[str]) -> None:
    Path("run.yaml").write_text("name: a\ntrainer: a:b\nmodel: {layers: [1]}\n")
    try:
        loaded = load_config("run.yaml", overrides)
    except ConfigError as error:
        told(error)
    else:
        assert is_the_same_again(loaded)


# Spaces


@given(said=st.lists(ranges(), min_size=1, max_size=4))
@settings(max_examples=100, derandomize=True)
def test_a_space_of_any_ranges_is_the_same_again(said: list[dict[str, Any]]) -> None:
    keys = {f"params.k{number}": one for number, one in enumerate(said)}
    tune = {"metric": "eval_loss", "mode": "min", "num_samples": 2}
    values = {"name": "a", "script": "a.py", "search_space": keys, "tune": tune}
    Path("sweep.yaml").write_text(yaml.safe_dump(values))
    try:
        loaded = load_sweep("sweep.yaml")
    except ConfigError as error:
        told(error)
        return
    assert is_the_same_again(loaded)
    Path("again.yaml").write_text(loaded.yaml())
    assert load_sweep("again.yaml").space == loaded.space


@given(said=ranges(), value=st.integers(-2000, 2000) | st.floats(-1e6, 1e6))
@settings(max_examples=100, derandomize=True)
def test_what_is_clamped_is_a_multiple_of_the_step_between_the_bounds(said: dict[str, Any], value: float) -> None:
    """By arithmetic of the test's own: ``takes`` and ``clamped`` share theirs."""
    ((kind, given),) = said.items()
    if kind in ("choice", "grid"):
        return
    step = given[2] if kind.startswith("q") else None
    made = Parameter("x", kind, bounds=(given[0], given[1]), quantum=step).clamped(value)
    if step is not None:
        assert abs(made / step - round(made / step)) < 1e-6
    if "normal" not in kind:
        slack = 1e-9 * max(1.0, abs(given[0]), abs(given[1]))
        assert given[0] - slack <= made <= given[1] + slack
        assert kind not in ("randint", "lograndint") or made < given[1]
    assert isinstance(made, int) == kind.endswith("randint")


# Manifests


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", fullmatch=True)


@given(name=NAMES, sweep=st.booleans(), kind=st.sampled_from(["RayJob", "RayCluster"]))
@settings(max_examples=60, derandomize=True)
def test_a_run_of_any_name_has_a_manifest_or_a_problem(tmp_path: Path, name: str, sweep: bool, kind: str) -> None:
    _manifest_or_problems(tmp_path, changed(SWEEP if sweep else RUN, {"name": name}), kind)


@given(data=st.data(), kind=st.sampled_from(["RayJob", "RayCluster"]))
@settings(max_examples=150, derandomize=True)
def test_a_section_kubernetes_of_anything_has_a_manifest_or_problems(
    tmp_path: Path, data: st.DataObject, kind: str
) -> None:
    known = {path: part for path, part in settings_of("seq2seq").items() if path[0] in ("kubernetes", "scaling")}
    config = copy.deepcopy(RUN)
    for place in data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3)):
        below: Any = config
        for key in place[:-1]:
            below = below.setdefault(key, {}) if isinstance(below.get(key, {}), dict) else {}
        below[place[-1]] = data.draw(_fitting(known[place]) if data.draw(st.booleans()) else ANYTHING)
    _manifest_or_problems(tmp_path, config, kind)


def _manifest_or_problems(folder: Path, config: dict[str, Any], kind: str) -> None:
    try:
        made = made_of(folder, config, kind)
    except UserError as error:
        told(error)
        return
    for document in made.values():
        assert all_mistakes(document) == []
        assert yaml.safe_load(text(document)) == document
