"""Models of the user's own on two workers, and the loss that does not depend on how the batch is split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from ray.train import ScalingConfig
from transformers import TrainerCallback
from transformers.utils.generic import ModelOutput

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.errors import ContractError
from tests.ray.recipes import COMMON, tiny_bert, tokenizer, vowels

pytestmark = pytest.mark.ray


@dataclass
class Output(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class TupleModel(torch.nn.Module):
    """Returns a tuple: the loss first when it is given labels, then the scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        scores = self.layer(features)
        if labels is None:
            return (scores,)
        return torch.nn.functional.cross_entropy(scores, labels), scores


class OutputModel(TupleModel):
    """Returns a ModelOutput."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        outputs = super().forward(features, labels)
        return Output(loss=outputs[0] if labels is not None else None, logits=outputs[-1])


class TwoLabelModel(torch.nn.Module):
    """Takes two label arguments, which are named by ``label_names``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind, self.size = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)

    def forward(
        self, features: torch.Tensor, kinds: torch.Tensor | None = None, sizes: torch.Tensor | None = None
    ) -> Any:
        kind, size = self.kind(features), self.size(features).squeeze(-1)
        if kinds is None or sizes is None:
            return (kind, size)
        loss = torch.nn.functional.cross_entropy(kind, kinds) + torch.nn.functional.mse_loss(size, sizes)
        return (loss, kind, size)


class LossLastModel(TupleModel):
    """Breaks the contract: the scores come first."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        return tuple(reversed(super().forward(features, labels)))


def points(count: int, names: tuple[str, ...]) -> Dataset:
    draw = torch.Generator().manual_seed(count)
    features = torch.randn(count, 4, generator=draw)
    targets = {"labels": (features[:, 0] > 0).long(), "kinds": (features[:, 0] > 0).long(), "sizes": features[:, 1]}
    columns = {"features": features.tolist(), **{name: targets[name].tolist() for name in names}}
    return Dataset.from_dict(columns)


MODELS = {
    "tuple": (TupleModel, ("labels",)),
    "ModelOutput": (OutputModel, ("labels",)),
    "two labels": (TwoLabelModel, ("kinds", "sizes")),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_keeps_the_contract_trains_evaluates_and_predicts(
    name: str, tmp_path: Path, ray_cluster: None
) -> None:
    kind, labels = MODELS[name]
    changes = {"max_steps": 20, "learning_rate": 0.1, "eval_steps": 10, "label_names": list(labels)}
    trainer: Any = RayTrainer(
        kind(),
        RayTrainingArguments(tmp_path, **{**COMMON, **changes}),
        train_dataset=points(64, labels),
        eval_dataset=points(11, labels),
        compute_metrics=lambda p: {
            "rows": float(len(p.label_ids[0] if isinstance(p.label_ids, tuple) else p.label_ids))
        },
        scaling_config=ScalingConfig(num_workers=2),
    )
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    metrics = trainer.evaluate()
    assert metrics["eval_rows"] == 11.0
    assert metrics["eval_loss"] == pytest.approx(losses[-1]) and losses[-1] < losses[0]
    prediction = trainer.predict(points(11, labels))
    scores = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    assert scores.shape == (11, 2)
    with torch.no_grad():
        expected = trainer.model(torch.tensor(points(11, ())["features"]))
    first = expected.logits if isinstance(expected, Output) else expected[0]
    assert torch.allclose(torch.tensor(scores), first, atol=1e-6)


class NeverSteps(TrainerCallback):
    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("a step was taken")


def test_a_model_that_breaks_it_is_refused_before_the_first_step(tmp_path: Path, ray_cluster: None) -> None:
    trainer: Any = RayTrainer(
        LossLastModel(),
        RayTrainingArguments(tmp_path, **{**COMMON, "eval_strategy": "no"}),
        train_dataset=points(64, ("labels",)),
        callbacks=[NeverSteps()],
        scaling_config=ScalingConfig(num_workers=2),
    )
    with pytest.raises(ContractError, match=r"the loss, at 0, has to be a scalar\n  Instead: put what is at 1 there"):
        trainer.train()


def train_split(workers: int, accumulation: int, folder: Path) -> dict[str, list[float]]:
    """Train a BERT classifier, which ignores num_items_in_batch, on global batches of 8."""
    changes = {
        "per_device_train_batch_size": 8 // (workers * accumulation),
        "gradient_accumulation_steps": accumulation,
        "max_steps": 4,
        "eval_steps": 2,
    }
    trainer: Any = RayTrainer(
        tiny_bert(vocabulary=len(tokenizer()), dropout=0.0),
        RayTrainingArguments(folder, **{**COMMON, **changes}),
        train_dataset=vowels(64, 3),
        eval_dataset=vowels(12, 4),
        processing_class=tokenizer(),
        scaling_config=ScalingConfig(num_workers=workers),
    )
    trainer.train()
    return {
        name: [entry[name] for entry in trainer.state.log_history if name in entry]
        for name in ("loss", "grad_norm", "eval_loss")
    }


def test_loss_gradient_norm_and_eval_loss_do_not_depend_on_the_split(tmp_path: Path, ray_cluster: None) -> None:
    one, two, four = (train_split(w, a, tmp_path) for w, a in ((1, 4), (2, 2), (4, 1)))
    assert 0.5 < one["loss"][0] < 0.9  # the cross entropy of two classes, not a multiple of it
    for other in (two, four):
        for name, values in one.items():
            assert other[name] == pytest.approx(values, rel=1e-5), name


class SeesTypes(TrainerCallback):
    """Notes the type of the classifier's output in training."""

    def __init__(self) -> None:
        self.types: list[str] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        def note(module: Any, inputs: Any, output: torch.Tensor) -> None:
            self.types.append(str(output.dtype))

        kwargs["model"].bert.encoder.layer[0].intermediate.dense.register_forward_hook(note)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "torch.bfloat16"), (None, "torch.float32")])
def test_autocast_is_active_inside_the_worker(
    precision: str | None, dtype: str, tmp_path: Path, ray_cluster: None
) -> None:
    sees = SeesTypes()
    trainer: Any = RayTrainer(
        tiny_bert(vocabulary=len(tokenizer())),
        RayTrainingArguments(tmp_path, **{**COMMON, "max_steps": 2, "eval_strategy": "no"}),
        train_dataset=vowels(16, 3),
        processing_class=tokenizer(),
        callbacks=[sees],
        precision=precision,
        scaling_config=ScalingConfig(num_workers=1),
    )
    trainer.train()
    assert set(sees.types) == {dtype}
    assert trainer.precision.name == (precision or "fp32")


def test_an_evaluation_alone_has_the_right_loss(tmp_path: Path, ray_cluster: None) -> None:
    """Without data in the constructor, and without a training that would have found out about the model."""
    trainer: Any = RayTrainer(
        tiny_bert(vocabulary=len(tokenizer())),
        RayTrainingArguments(tmp_path, **{**COMMON, "eval_strategy": "no"}),
        processing_class=tokenizer(),
        scaling_config=ScalingConfig(num_workers=2),
    )
    assert trainer.evaluate(vowels(12, 4))["eval_loss"] == pytest.approx(0.69, abs=0.1)
