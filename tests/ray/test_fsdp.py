"""FSDP on two CPU workers: trains, saves, resumes and evaluates, with sharded and with full checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.checkpoints import Store
from raytrainer.manifests import damage
from tests.ray.recipes import COMMON, classify_words, without_times

pytestmark = pytest.mark.ray

# BERT's own default names a module and one inside it, of which accelerate shards the inner one twice.
CONFIG = {"transformer_layer_cls_to_wrap": ["BertLayer"]}


class Shards(TrainerCallback):
    """Counts the numbers that rank 0 holds of the model, and those that the model has."""

    held = whole = 0

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        parameters = list(model.parameters())
        self.whole = sum(parameter.numel() for parameter in parameters)
        self.held = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in parameters)


def trainer(folder: Path, state_dict_type: str) -> Any:
    steps = {**COMMON, "save_strategy": "steps", "save_steps": 4, "max_steps": 8, "load_best_model_at_end": True}
    arguments = RayTrainingArguments(
        folder / "out", fsdp=True, fsdp_config={**CONFIG, "state_dict_type": state_dict_type}, **steps
    )
    return RayTrainer(
        args=arguments,
        callbacks=[Shards()],
        scaling_config=ScalingConfig(num_workers=2),
        **classify_words(),
    )


def equal(one: Any, other: Any) -> bool:
    weights = other.model.state_dict()
    return all(torch.equal(tensor, weights[name]) for name, tensor in one.model.state_dict().items())


def history(trainer: Any) -> list[dict[str, Any]]:
    return [without_times(entry) for entry in trainer.state.log_history]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def trained(folder: Path, ray_cluster: None) -> Any:
    """Uninterrupted, with a sharded checkpoint half-way."""
    whole = trainer(folder, "SHARDED_STATE_DICT")
    whole.train()
    return whole


def test_each_rank_holds_half_of_the_model(trained: Any) -> None:
    shards = next(callback for callback in trained.callback_handler.callbacks if isinstance(callback, Shards))
    assert 0.4 < shards.held / shards.whole < 0.6


def test_a_sharded_checkpoint_has_every_ranks_part_and_resumes_to_the_same_weights(
    trained: Any, folder: Path, tmp_path: Path
) -> None:
    (manifest, _) = Store(str(folder / "out")).manifests()
    parts = {f"{kind}_0/__{rank}_0.distcp" for kind in ("optimizer", "pytorch_model_fsdp") for rank in (0, 1)}
    assert parts | {"rng_state_0.pth", "rng_state_1.pth"} < manifest.files.keys()
    assert damage(manifest, folder / "out" / "checkpoint-4") is None

    resumed = trainer(tmp_path, "SHARDED_STATE_DICT")
    resumed.train(resume_from_checkpoint=str(folder / "out" / "checkpoint-4"))

    assert history(resumed) == history(trained)
    assert equal(resumed, trained)
    assert resumed.state.best_model_checkpoint == str(tmp_path / "out" / "checkpoint-8")


@pytest.mark.slow
def test_a_full_checkpoint_resumes_to_the_same_weights(trained: Any, tmp_path: Path) -> None:
    whole = trainer(tmp_path, "FULL_STATE_DICT")
    whole.train()
    assert equal(whole, trained)

    resumed = trainer(tmp_path, "FULL_STATE_DICT")
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))

    assert equal(resumed, trained)
    assert history(resumed) == history(trained)


def test_the_trained_model_evaluates_as_it_did_while_it_trained(trained: Any) -> None:
    last = [entry for entry in trained.state.log_history if "eval_loss" in entry][-1]
    evaluation = without_times(trained.evaluate())
    assert evaluation == {name: value for name, value in without_times(last).items() if name != "step"}
