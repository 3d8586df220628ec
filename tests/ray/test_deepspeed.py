"""DeepSpeed on two CPU workers: trains as DDP does, saves, resumes and evaluates, under ZeRO 2 and 3."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from transformers import BertForSequenceClassification

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError, ResourcesError
from raytrainer.manifests import damage
from tests.ray.recipes import COMMON, classify_words, without_times

# DeepSpeed compiles what its CPU workers talk through, anew in each run of the tests.
pytestmark = [pytest.mark.ray, pytest.mark.slow]
there = importlib.util.find_spec("deepspeed") is not None
installed = pytest.mark.skipif(not there, reason='needs pip install "raytrainer[deepspeed]"')

AUTO = (
    *("train_batch_size", "train_micro_batch_size_per_gpu"),
    *("gradient_accumulation_steps", "gradient_clipping"),
)
PARTS = {
    2: {"mp_rank_00_model_states.pt", *(f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1))},
    3: {f"zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt" for rank in (0, 1) for kind in ("model", "optim")},
}


def config(stage: int) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage}, **dict.fromkeys(AUTO, "auto")}


def trainer(folder: Path, deepspeed: Any, workers: int = 2) -> Any:
    steps = {**COMMON, "save_strategy": "steps", "save_steps": 4, "max_steps": 8, "load_best_model_at_end": True}
    arguments = RayTrainingArguments(folder / "out", deepspeed=deepspeed, gradient_accumulation_steps=2, **steps)
    return RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=workers), **classify_words())


def history(trainer: Any) -> list[dict[str, Any]]:
    """What was logged. Not total_flos: under ZeRO 3 transformers counts the parameters that are gathered just then."""
    entries = [without_times(entry) for entry in trainer.state.log_history]
    return [{name: value for name, value in entry.items() if name != "total_flos"} for entry in entries]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Any:
    """Without DeepSpeed."""
    whole = trainer(tmp_path_factory.mktemp("plain"), None)
    whole.train()
    return whole


@pytest.fixture(scope="module", params=[2, 3])
def stage(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def folder(stage: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"zero-{stage}")


@pytest.fixture(scope="module")
def trained(stage: int, folder: Path, ray_cluster: None) -> Any:
    """Uninterrupted, with a checkpoint half-way; the configuration is a file."""
    file = folder / "deepspeed.json"
    file.write_text(json.dumps(config(stage)))
    whole = trainer(folder, str(file))
    whole.train()
    return whole


@installed
def test_it_trains_what_ddp_trains(trained: Any, plain: Any) -> None:
    weights = plain.model.state_dict()
    for name, tensor in trained.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-5, atol=1e-6)
    losses = [[entry["loss"] for entry in history(one) if "loss" in entry] for one in (trained, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@installed
def test_a_checkpoint_has_every_ranks_part_and_resumes_to_the_same_weights(
    trained: Any, stage: int, folder: Path, tmp_path: Path
) -> None:
    (manifest, _) = Store(str(folder / "out")).manifests()
    assert {f"global_step4/{name}" for name in PARTS[stage]} | {"latest"} < manifest.files.keys()
    assert damage(manifest, folder / "out" / "checkpoint-4") is None

    resumed = trainer(tmp_path, config(stage))
    resumed.train(resume_from_checkpoint=str(folder / "out" / "checkpoint-4"))

    weights = trained.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.model.state_dict().items())
    assert history(resumed) == history(trained)


@installed
def test_another_number_of_workers_cannot_resume(trained: Any, stage: int, folder: Path, tmp_path: Path) -> None:
    alone = trainer(tmp_path, config(stage), workers=1)
    with pytest.raises(ArgumentsError, match=r"num_workers = 1: .*, 2"):
        alone.train(resume_from_checkpoint=str(folder / "out" / "checkpoint-4"))


@installed
def test_the_trained_model_evaluates_as_it_did_while_it_trained(trained: Any) -> None:
    last = [entry for entry in trained.state.log_history if "eval_loss" in entry][-1]
    evaluation = without_times(trained.evaluate())
    assert evaluation.pop("eval_loss") == pytest.approx(last["eval_loss"], rel=1e-4)
    assert evaluation.items() <= last.items()


@installed
def test_a_model_that_is_made_split_trains_with_deepspeeds_own_optimizer_and_schedule(
    tmp_path: Path, ray_cluster: None
) -> None:
    parts = classify_words()
    before = {name: tensor.clone() for name, tensor in parts["model"].state_dict().items()}
    pretrained = str(tmp_path / "pretrained")
    parts.pop("model").save_pretrained(pretrained)
    warmup = dict.fromkeys(("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "total_num_steps"), "auto")
    own = {
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto", "torch_adam": True}},
        "scheduler": {"type": "WarmupDecayLR", "params": warmup},
    }
    arguments = RayTrainingArguments(tmp_path / "out", deepspeed={**config(3), **own}, **{**COMMON, "max_steps": 8})
    made = RayTrainer(
        model_init=lambda: BertForSequenceClassification.from_pretrained(pretrained),
        args=arguments,
        scaling_config=ScalingConfig(num_workers=2),
        **parts,
    )
    made.train()
    evaluation = made.evaluate()

    after = made.model.state_dict()
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in before.items()}
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])
    assert [entry["learning_rate"] for entry in made.state.log_history if "loss" in entry][-1] < 5e-3
    last = [entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry]
    assert evaluation["eval_loss"] == pytest.approx(last[1], rel=1e-4) != last[0]


@pytest.mark.skipif(there, reason="DeepSpeed is installed")
def test_workers_without_deepspeed_say_what_to_install(tmp_path: Path, ray_cluster: None) -> None:
    with pytest.raises(ResourcesError, match=r'rank 0, 1\n.*pip install "raytrainer\[deepspeed\]"'):
        trainer(tmp_path, config(2)).train()
