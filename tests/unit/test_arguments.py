"""TrainingArguments that a driver without the workers' hardware can build, and what a worker makes of them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import PartialState
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from raytrainer import RaySeq2SeqTrainingArguments, RayTrainingArguments
from raytrainer.arguments import field_values, rebuild
from raytrainer.checkpoints import on_this_machine
from raytrainer.where import here, on_driver

FOR_A_GPU: dict[str, Any] = {
    "bf16": True,
    "tf32": True,
    "torch_compile": True,
    "deepspeed": {"zero_optimization": {"stage": 2}},
}


@pytest.mark.parametrize("kind", [RayTrainingArguments, RaySeq2SeqTrainingArguments])
@pytest.mark.parametrize("field", FOR_A_GPU)
def test_a_driver_without_a_gpu_can_ask_for_one(kind: type[TrainingArguments], field: str, tmp_path: Path) -> None:
    arguments = kind(output_dir=str(tmp_path), **{field: FOR_A_GPU[field]})
    assert getattr(arguments, field) == FOR_A_GPU[field]
    assert arguments.use_cpu is False and arguments.dataloader_pin_memory is True
    assert (arguments.world_size, arguments.process_index, str(arguments.device)) == (1, 0, "cpu")


def test_where_the_hardware_is_it_is_checked(tmp_path: Path) -> None:
    values = field_values(RayTrainingArguments(output_dir=str(tmp_path), bf16=True))
    with here(), pytest.raises(ValueError, match="bf16"):
        rebuild(RayTrainingArguments, values)


def test_what_does_not_hang_on_hardware_is_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fp16 and bf16"):
        RayTrainingArguments(output_dir=str(tmp_path), fp16=True, bf16=True)
    with pytest.raises(ValueError, match="warmup_steps"):
        RayTrainingArguments(output_dir=str(tmp_path), warmup_steps=-1)


def test_building_them_leaves_the_users_accelerator_alone(tmp_path: Path) -> None:
    before = PartialState(cpu=True)
    RayTrainingArguments(output_dir=str(tmp_path))
    assert PartialState._shared_state and PartialState().device == before.device


def test_no_new_fields() -> None:
    for ours, theirs in (
        (RayTrainingArguments, TrainingArguments),
        (RaySeq2SeqTrainingArguments, Seq2SeqTrainingArguments),
    ):
        assert ours.__dataclass_fields__.keys() == theirs.__dataclass_fields__.keys()


def test_they_pickle(tmp_path: Path) -> None:
    arguments = RayTrainingArguments(output_dir=str(tmp_path), bf16=True, learning_rate=0.5)
    again = pickle.loads(pickle.dumps(arguments))
    assert (again.bf16, again.learning_rate) == (True, 0.5)


def test_rebuilding_is_idempotent_and_takes_what_was_set_later(tmp_path: Path) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, eval_strategy="steps", logging_steps=3, report_to="none"
    )
    arguments.learning_rate = 0.25
    again = rebuild(TrainingArguments, field_values(arguments), max_steps=9)
    assert again.max_steps == 9
    assert field_values(rebuild(TrainingArguments, field_values(arguments))) == field_values(arguments)
    assert again.learning_rate == 0.25 and again.eval_steps == 3


def test_local_paths_become_absolute_and_uris_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert on_this_machine("out") == str(tmp_path / "out")
    assert on_this_machine("~/out") == os.path.expanduser("~/out")
    assert on_this_machine("s3://bucket/out") == "s3://bucket/out"


def test_a_group_member_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_driver()
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "0")
    assert on_driver()
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not on_driver()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import raytrainer, sys; sys.exit(bool({'torch', 'ray', 'transformers', 'mlflow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
