"""Files that run something when they are read, in a checkpoint: they are found, refused and not run."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from transformers import Trainer, TrainingArguments

from raytrainer.continuation import Continuation
from raytrainer.errors import TrainingFailed
from raytrainer.unpickling import _data_only, _guarded, code_in, reads_data_only
from tests.ray.recipes import COMMON, classify_words

# torch warns that no process group is there, and in writing that it would rather not be asked.
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Evil:
    """Makes a folder where it is read."""

    mark: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def pickled(thing: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(thing))


# As torch writes today, as it wrote for years, and no file of torch's at all.
WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "torch": torch.save,
    "old torch": lambda thing, file: torch.save(thing, file, _use_new_zipfile_serialization=False),
    "pickle": pickled,
}


def trainer(folder: Path, steps: int = 4) -> Trainer:
    arguments = {**COMMON, "max_steps": steps, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
    return Trainer(args=TrainingArguments(folder, use_cpu=True, **arguments), **classify_words())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the middle of a training, with all that goes into it."""
    whole = trainer(tmp_path_factory.mktemp("saved"))
    continuation = Continuation(whole)
    whole.train()
    folder = Path(whole.args.output_dir or "") / "checkpoint-2"
    continuation.save(folder)
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoint-2"))


def is_evil(file: Path, mark: Path) -> bool:
    """Whether a file does run something for one who reads it carelessly: else a test of it would say nothing."""
    if zipfile.is_zipfile(file):
        torch.load(file, weights_only=False)
    else:
        with open(file, "rb") as stream:
            while not mark.exists():
                pickle.load(stream)
    return mark.exists()


def test_what_transformers_and_raytrainer_write_is_data(checkpoint: Path) -> None:
    assert code_in(checkpoint) is None
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "raytrainer_state_0.pt"} < set(os.listdir(checkpoint))
    # Nobody reads it, and it is no data: transformers' own.
    assert torch.serialization.get_unsafe_globals_in_checkpoint(str(checkpoint / "training_args.bin"))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "name",
    [
        *("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_1.pth", "raytrainer_state_0.pt"),
        *("pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model_fsdp.bin", "optimizer.bin"),
        *("adapter_model.bin", "second/adapter_model.bin"),
        "global_step2/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    ],
)
def test_a_file_with_code_in_it_is_found_and_not_run(name: str, writer: str, checkpoint: Path) -> None:
    file, mark = checkpoint / name, checkpoint / "mark"
    file.parent.mkdir(exist_ok=True)
    WRITERS[writer]({"state": Evil(mark)}, file)
    found = code_in(checkpoint)
    assert found is not None and found.startswith(f"{name} ")
    assert found.endswith(" when it is read") and (writer != "torch" or "posix.mkdir" in found)
    assert not mark.exists()
    assert is_evil(file, mark)


def test_what_cannot_be_read_is_found_too(checkpoint: Path) -> None:
    (checkpoint / "scheduler.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    assert (code_in(checkpoint) or "").startswith("scheduler.pt cannot be read: ")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin"])
def test_transformers_does_not_run_it_either(name: str, checkpoint: Path, tmp_path: Path) -> None:
    if name == "pytorch_model.bin":
        (checkpoint / "model.safetensors").unlink()
    torch.save(Evil(tmp_path / "mark"), checkpoint / name)
    resumed = trainer(tmp_path / "out")
    reads_data_only(resumed)
    with pytest.raises(TrainingFailed, match=rf"{name} has code in it, posix\.mkdir"):
        resumed.train(resume_from_checkpoint=str(checkpoint))
    assert not (tmp_path / "mark").exists()
    assert is_evil(checkpoint / name, tmp_path / "mark")


@pytest.mark.parametrize("name", ["trainer_state.json", "config.json", "model.safetensors"])
def test_what_is_no_pickle_is_not_read_as_one(name: str, checkpoint: Path, tmp_path: Path) -> None:
    pickled(Evil(tmp_path / "mark"), checkpoint / name)
    resumed = trainer(tmp_path / "out")
    reads_data_only(resumed)
    with pytest.raises(Exception, match=r"(?i)decode|header"):
        resumed.train(resume_from_checkpoint=str(checkpoint))
    assert not (tmp_path / "mark").exists()


def test_what_nobody_reads_is_not_run(saved: Path, checkpoint: Path, tmp_path: Path) -> None:
    torch.save(Evil(tmp_path / "mark"), checkpoint / "training_args.bin")
    resumed = trainer(tmp_path / "out")
    reads_data_only(resumed)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert not (tmp_path / "mark").exists()
    # And the guard changes nothing of what is read.
    there = load_file(saved.parent / "checkpoint-4" / "model.safetensors")
    here = load_file(tmp_path / "out" / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(tensor, there[key]) for key, tensor in here.items())


def test_a_caller_who_would_run_it_is_overruled(tmp_path: Path) -> None:
    torch.save(Evil(tmp_path / "mark"), tmp_path / "states.pt")
    with pytest.raises(TrainingFailed, match=r"states\.pt has code in it"):
        _data_only(torch.load)(tmp_path / "states.pt", weights_only=False)
    assert not (tmp_path / "mark").exists()


def state() -> dict[str, Any]:
    return {"weights": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16), "lr": [0.1, True]}


def read_shards(folder: Path, into: dict[str, Any]) -> dict[str, Any]:
    _guarded(lambda: load(into, checkpoint_id=folder), False, True)()
    return into


def test_shards_of_torchs_are_read(tmp_path: Path) -> None:
    save(state(), checkpoint_id=tmp_path / "model_0")
    assert code_in(tmp_path) is None
    blank = {"weights": torch.zeros(2, 3), "half": torch.zeros(2, dtype=torch.bfloat16), "lr": []}
    read = read_shards(tmp_path / "model_0", blank)
    assert torch.equal(read["weights"], state()["weights"]) and torch.equal(read["half"], state()["half"])
    assert read["lr"] == [0.1, True]


def test_the_metadata_of_shards_has_no_code(tmp_path: Path) -> None:
    folder, mark = tmp_path / "model_0", tmp_path / "mark"
    save(state(), checkpoint_id=folder)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.planner_data = Evil(mark)
    pickled(metadata, folder / ".metadata")
    assert code_in(tmp_path) == "model_0/.metadata has code in it, posix.mkdir, that would run when it is read"
    with pytest.raises(BaseException, match=r"posix\.mkdir"):
        read_shards(folder, state())
    assert not mark.exists()
    with pytest.raises(BaseException, match="mark"):  # torch itself runs it, twice
        load(state(), checkpoint_id=folder)
        load(state(), checkpoint_id=folder)
    assert mark.exists()


@pytest.mark.parametrize("name", ["os.system", "dataclass", "torch.save", "TensorProperties.create_from_tensor"])
def test_metadata_names_its_own_classes_only(name: str, tmp_path: Path) -> None:
    """Neither what its module imports nor what its classes have."""
    module = b"torch.distributed.checkpoint.metadata"
    (tmp_path / ".metadata").write_bytes(
        b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
    )
    assert f"{module.decode()}.{name}" in (code_in(tmp_path) or "")


def test_a_value_among_the_shards_has_no_code(tmp_path: Path) -> None:
    folder, mark = tmp_path / "model_0", tmp_path / "mark"
    save({"lr": Evil(mark)}, checkpoint_id=folder)
    with pytest.raises(BaseException, match=r"a value beside its tensors has code in it, posix\.mkdir"):
        read_shards(folder, {"lr": 0.0})
    assert not mark.exists()
    load({"lr": 0.0}, checkpoint_id=folder)
    assert mark.exists()  # torch itself runs it
