"""Fields of other packages' classes, read from source, are those that the classes have."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

import peft
import pytest
import transformers

from raytrainer.config.host import HostField, host_fields
from raytrainer.config.hosted import RESERVED, checked, training_fields

SOURCE = '''
from __future__ import annotations
import enum, typing
from dataclasses import dataclass, field

class Colour(ExplicitEnum):
    """Colours."""
    RED = "red"
    BLUE = "blue"

class Parent:
    first: int = 1
    colour: Colour | str = field(default="red", metadata={"help": "which " "colour"})

class Child(mixins.Mixin, Parent):
    first: float = 2.0
    optional: "typing.Optional[int]" = None
    union: typing.Union[bool, typing.List[str], None] = field(default=None)
    tables: dict[str, float] = field(default_factory=dict)
    choice: str = field(default="a", metadata={"choices": ["a", "b"]})
    literal: Literal["x", False] = "x"
    other: SomethingElse | int = None
    constant: ClassVar[int] = 3
    hidden: int = field(init=False, default=3)
    _private: int = 3
    required: str
    computed: int = field(default=1 + THREE)
    nothing = 3
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "hosted_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('this package was imported')\n")
    (folder / "arguments.py").write_text(SOURCE)
    (folder / "broken.py").write_text("class Child(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "hosted_package"


def test_fields_are_read_and_nothing_is_imported(package: str) -> None:
    fields = host_fields(package, ["no_such_file.py", "broken.py", "arguments.py"], "Child")
    assert package not in sys.modules
    assert {name: field.annotation for name, field in fields.items()} == {
        "first": float,
        "colour": Literal["red", "blue"],
        "optional": int | None,
        "union": bool | list[str] | None,
        "tables": dict[Any, float],
        "choice": Literal["a", "b"],
        "literal": Literal["x", False],
        "other": Any,
        "required": str,
        "computed": int,
    }
    assert fields["colour"] == HostField("colour", Literal["red", "blue"], "which colour", "red", True)
    assert {name for name, field in fields.items() if not field.has_default} == {"tables", "required", "computed"}


@pytest.mark.parametrize(("name", "file"), [("no_such_package", "a.py"), ("sys", "a.py"), ("json", "no.py")])
def test_what_cannot_be_read_has_no_fields(name: str, file: str) -> None:
    assert host_fields(name, [file], "Child") == {}


@pytest.mark.parametrize("seq2seq", [False, True])
def test_training_arguments_are_those_of_transformers(seq2seq: bool) -> None:
    kind = transformers.Seq2SeqTrainingArguments if seq2seq else transformers.TrainingArguments
    real = {field.name: field for field in dataclasses.fields(kind) if field.init}
    read = training_fields(seq2seq)
    assert read.keys() == real.keys()
    for name, field in read.items():
        assert not field.has_default or field.default == real[name].default, name
    assert sum(field.annotation is Any for field in read.values()) <= 3
    assert set(read["lr_scheduler_type"].annotation.__args__) == {str(one.value) for one in transformers.SchedulerType}


def test_lora_settings_are_those_of_peft() -> None:
    schema = checked("causal-lm").model_json_schema()["$defs"]["LoraConfig"]["properties"]
    assert schema.keys() == {field.name for field in dataclasses.fields(peft.LoraConfig) if field.init}


def test_what_transformers_has_by_default_is_no_mistake() -> None:
    """A range or type of ours that is narrower than transformers' would refuse what everybody writes."""
    for kind in ("seq2seq", "causal-lm"):
        fields = training_fields(kind == "seq2seq")
        defaults = {name: field.default for name, field in fields.items() if field.has_default and name not in RESERVED}
        assert len(defaults) > 90
        values = {"name": "a", "task": kind, "model": {"name": "m"}, "data": {"train": "t"}, "training": defaults}
        checked(kind).model_validate(values)


@pytest.mark.parametrize(
    "training",
    [
        {"eval_steps": 0.1, "logging_steps": 5, "save_steps": 0.5, "warmup_steps": 0.06, "num_train_epochs": 1},
        {"fsdp": True, "fsdp_config": {"version": 2}},
        {"fsdp": "full_shard auto_wrap"},
        {"deepspeed": "ds.json"},
        {"deepspeed": {"zero_optimization": {"stage": 2}}, "report_to": ["tensorboard"], "debug": "underflow_overflow"},
        {"optim_args": "a=1,b=2", "optim_target_modules": ["q_proj"], "lr_scheduler_kwargs": {"num_cycles": 2}},
        {"generation_config": "folder", "predict_with_generate": True, "log_level": "info", "seed": 0},
    ],
)
def test_what_transformers_takes_is_taken(training: dict[str, Any]) -> None:
    values = {"name": "a", "task": "seq2seq", "model": {"name": "m"}, "data": {"train": "t"}, "training": training}
    checked("seq2seq").model_validate(values)
