"""What a worker does before anything else."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata
from ray.train.v2.api.config import RunConfig

from raytrainer.early import Preparation, prepare
from raytrainer.script_job import ScriptJob

VISIBLE = ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]
SHARED = "TRAIN_ENABLE_SHARE_CUDA_VISIBLE_DEVICES"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str | None]]]:
    """Collect which GPUs each import sees."""
    seen: list[list[str | None]] = []
    for name in [*VISIBLE, SHARED]:
        monkeypatch.setenv(name, "")  # gets it restored
        monkeypatch.delenv(name)

    def note(name: str) -> None:
        seen.append([os.environ.get(each) for each in VISIBLE])

    monkeypatch.setattr(importlib, "import_module", note)
    yield seen
    gc.unfreeze()


def worker(node: str, *gpus: str) -> ActorMetadata:
    return ActorMetadata(hostname=node, node_id=node, node_ip="10.0.0.1", pid=1, accelerator_ids={"GPU": list(gpus)})


GROUP = [worker("a", "0"), worker("b", "5"), worker("a", "2")]


@pytest.mark.parametrize("rank, gpus", [(0, "0,2"), (1, "5"), (2, "0,2")])
def test_an_import_sees_the_gpus_of_all_workers_on_the_node(rank: int, gpus: str, seen: list[list[str | None]]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = str(GROUP[rank].accelerator_ids["GPU"][0])
    prepare(Preparation({}, ("first",)), rank, *GROUP)
    assert seen == [[gpus, None]]


def test_so_it_does_with_rocm(seen: list[list[str | None]]) -> None:
    os.environ["HIP_VISIBLE_DEVICES"] = "2"
    prepare(Preparation({}, ("first",)), 2, *GROUP)
    assert seen == [["0,2", "0,2"]]


def test_unless_the_user_wants_none_shared(seen: list[list[str | None]]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "2"
    prepare(Preparation({SHARED: "0"}, ("first",)), 2, *GROUP)
    assert seen == [["2", None]]


def test_without_gpus_nothing_is_set(seen: list[list[str | None]]) -> None:
    prepare(Preparation({}), 0)
    assert seen == [[None, None]] * len(Preparation({}).imports)


@pytest.mark.parametrize(
    "text, imported",
    [
        ("import os\nos.environ['HF_HOME'] = '/data'\nimport transformers", False),
        ("from dotenv import load_dotenv", False),
        ("import transformers", True),
    ],
)
def test_a_scripts_variables_are_set_before_transformers_is_imported(text: str, imported: bool, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(text)
    job = ScriptJob(str(tmp_path / "train.py"), False, [], None, RunConfig())
    assert ("transformers.trainer" in job.preparation.imports) == imported


def test_what_a_module_sets_is_not_known() -> None:
    assert ScriptJob("package.train", True, [], None, RunConfig()).preparation.imports == ("torch",)
