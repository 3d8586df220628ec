"""A checkpoint with a file that runs something when it is read is refused, on every rank, and nothing has run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError
from raytrainer.manifests import describe
from tests.ray.recipes import COMMON, classify_words
from tests.unit.test_unpickling import Evil

pytestmark = pytest.mark.ray


def trainer(folder: Path) -> Any:
    steps = {**COMMON, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
    arguments = RayTrainingArguments(folder, **steps)
    return RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=2), **classify_words())


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path, ray_cluster: None) -> None:
    trainer(tmp_path).train()
    store, mark, checkpoint = Store(str(tmp_path)), tmp_path / "mark", tmp_path / "checkpoint-2"
    manifest = store.manifest(2)
    assert manifest is not None

    # One rank's own file; whoever can write it can write the manifest that vouches for it.
    torch.save(Evil(mark), checkpoint / "rng_state_1.pth")
    vouched = {**manifest.files, "rng_state_1.pth": describe(checkpoint / "rng_state_1.pth")}
    store.seal(dataclasses.replace(manifest, files=vouched))
    with pytest.raises(ArgumentsError) as caught:
        trainer(tmp_path).train(resume_from_checkpoint=str(checkpoint))
    (problem,) = caught.value.problems
    assert (problem.setting, problem.value) == ("resume_from_checkpoint", str(checkpoint))
    assert problem.reason == "rng_state_1.pth has code in it, posix.mkdir, that would run when it is read"
    assert "another checkpoint (delete this one" in problem.fix
    assert not mark.exists()
