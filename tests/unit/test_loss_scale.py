"""The loss scale: which models ignore the number of items, and that treating them so mends the figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    default_data_collator,
    set_seed,
)

from raytrainer.contract import Verdict, count_items, ignores_num_items, inspect_model, sample_batch

pytestmark = pytest.mark.trains

LAYER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = {"vocab_size": 20, "max_position_embeddings": 32, **LAYER}
BERT = BertConfig(**TEXT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
IMAGE = {"image_size": 8, "patch_size": 4, **LAYER}
IDS = {"input_ids": [1, 2, 3, 4], "attention_mask": [1, 1, 1, 1]}
PIXELS = {"pixel_values": torch.ones(3, 8, 8)}


def t5() -> PreTrainedModel:
    config = T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0)
    config.decoder_start_token_id = 0
    return T5ForConditionalGeneration(config)


def clip() -> PreTrainedModel:
    return CLIPModel(CLIPConfig(text_config={"eos_token_id": 2, **TEXT}, vision_config=IMAGE, projection_dim=8))


def encoder_decoder() -> PreTrainedModel:
    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**TEXT), BertConfig(**TEXT))
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return EncoderDecoderModel(config)


def wav2vec2() -> PreTrainedModel:
    sizes = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    return Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=20, pad_token_id=0, **LAYER, **sizes, **positions))


ZOO: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], bool]] = {
    "bert classifier": (lambda: BertForSequenceClassification(BERT), {**IDS, "labels": 1}, True),
    "bert questions": (
        lambda: BertForQuestionAnswering(BERT),
        {**IDS, "start_positions": 1, "end_positions": 2},
        False,
    ),
    "bert two labels": (
        lambda: BertForPreTraining(BERT),
        {**IDS, "labels": [-100, 2, 3, -100], "next_sentence_label": 1},
        True,
    ),
    "t5": (t5, {**IDS, "labels": [3, 4, 5]}, True),
    "gpt2": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=32)),
        {**IDS, "labels": [1, 2, 3, 4]},
        False,
    ),
    "llama": (
        lambda: LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **TEXT)),
        {**IDS, "labels": [1, 2, 3, 4]},
        False,
    ),
    "vit": (lambda: ViTForImageClassification(ViTConfig(**IMAGE)), {**PIXELS, "labels": 1}, False),
    "wav2vec2": (wav2vec2, {"input_values": torch.ones(800), "labels": [1, 2, 3]}, True),
    "encoder-decoder": (encoder_decoder, {**IDS, "labels": [3, 4, 5]}, True),
}


class Head(nn.Module):
    """Takes num_items_in_batch by name and divides a sum of losses by it, times a factor that may be 0."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.head, self.factor = nn.Linear(1, 2), factor

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.head(x)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return self.factor * loss / kwargs.get("num_items_in_batch", len(x)), logits


class Ignoring(Head):
    def forward(self, x: torch.Tensor, labels: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x, labels)


class Named(Ignoring):
    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]  # it takes no count
        return super().forward(x, labels)


class Declared(Ignoring):
    accepts_loss_kwargs = False


class Noisy(Ignoring):
    def forward(self, x: torch.Tensor, labels: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loss, logits = super().forward(x, labels)
        return loss + torch.rand(()), logits


Build = Callable[..., Trainer]
ROWS = [{"x": [float(i)], "labels": i % 2} for i in range(4)]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build a trainer; what is not an argument of Trainer goes to the training arguments."""

    def build(
        model: nn.Module, data: Any = ROWS, kind: type[Trainer] = Trainer, compute_loss_func: Any = None, **options: Any
    ) -> Trainer:
        options = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, **options}
        args = TrainingArguments(str(tmp_path), **options)
        return kind(model, args, train_dataset=data, eval_dataset=data, compute_loss_func=compute_loss_func)

    return build


@pytest.mark.parametrize("name", ZOO)
def test_transformers_own_models(build: Build, name: str) -> None:
    make, example, ignores = ZOO[name]
    verdict = inspect_model(build(make(), [example] * 3), probe_loss_scale=True)
    assert verdict == Verdict(ignores_num_items=ignores)


@pytest.mark.parametrize("return_loss", [True, False])
def test_a_model_that_needs_no_labels(build: Build, return_loss: bool) -> None:
    trainer = build(clip(), [{**IDS, **PIXELS}] * 2)
    trainer.data_collator = lambda examples: {**default_data_collator(examples), "return_loss": return_loss}
    verdict = inspect_model(trainer, probe_loss_scale=True)
    assert verdict == Verdict() if return_loss else "or return_loss=True" in verdict.problems[0].fix


@pytest.mark.parametrize(
    ("model", "ignores"),
    [
        (Head(), False),
        (Ignoring(), True),
        (Named(), False),
        (Declared(), False),
        (Noisy(), True),
        (Ignoring(0.0), False),
        (Ignoring(float("nan")), False),
        (Ignoring(float("inf")), False),
    ],
    ids=[
        "divides",
        "ignores",
        "takes no kwargs",
        "declares it",
        "noisy",
        "loss of zero",
        "loss of nan",
        "infinite loss",
    ],
)
def test_models(build: Build, model: nn.Module, ignores: bool) -> None:
    trainer = build(model)
    batch = sample_batch(trainer)
    assert batch is not None
    assert ignores_num_items(trainer, batch) is ignores


class OwnLoss(Trainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


class OwnStep(Trainer):
    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        return super().training_step(*args, **kwargs)


@pytest.mark.parametrize(
    ("options", "ignores"),
    [
        ({"kind": OwnLoss}, False),
        ({"kind": OwnStep}, True),
        ({"compute_loss_func": lambda outputs, labels, num_items_in_batch=None: outputs[0]}, False),
        ({"data": [{"x": [1.0], "labels": -100}] * 4}, False),
    ],
    ids=["compute_loss", "training_step", "compute_loss_func", "nothing to predict"],
)
def test_where_transformers_relies_on_the_model(build: Build, options: dict[str, Any], ignores: bool) -> None:
    trainer = build(Ignoring(), **options)
    batch = sample_batch(trainer)
    assert batch is not None
    assert ignores_num_items(trainer, batch) is ignores
    assert inspect_model(trainer, probe_loss_scale=True).ignores_num_items is ignores


def test_label_smoothing_divides_by_itself(build: Build) -> None:
    trainer = build(BertForSequenceClassification(BERT), [{**IDS, "labels": 1}] * 4, label_smoothing_factor=0.1)
    assert inspect_model(trainer, probe_loss_scale=True) == Verdict()


def test_the_probe_can_be_left_out(build: Build) -> None:
    assert inspect_model(build(Ignoring()), probe_loss_scale=False) == Verdict()


@pytest.mark.parametrize(
    ("name", "labels", "extra"),
    [
        ("llama", [1, -100, 3, 4], {}),
        ("t5", [1, -100, 3, 4], {}),
        ("llama", [1, 2, 3, 4], {"shift_labels": [1, -100, -100, -100]}),
        ("bert questions", None, {}),
    ],
)
def test_items_are_counted_as_transformers_counts(
    build: Build, name: str, labels: list[int] | None, extra: dict[str, Any]
) -> None:
    trainer = build(ZOO[name][0](), [IDS] * 2)
    batch: dict[str, Any] = {key: torch.tensor([value] * 2) for key, value in extra.items()}
    if labels is not None:
        batch["labels"] = torch.tensor([labels] * 2)
    expected = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    assert count_items(trainer, batch) == expected
    assert (expected is None) == (labels is None)
    assert count_items(trainer, {"labels": [1, 2]}) is None


@pytest.mark.parametrize("name", ["bert classifier", "t5"])
def test_the_correction_mends_accumulation(build: Build, name: str) -> None:
    make, example, _ = ZOO[name]
    data = [{**example, "input_ids": [1 + i % 19, 2, 3, 4]} for i in range(16)]

    def train(batch_size: int, accumulation: int, corrected: bool) -> tuple[list[float], list[float]]:
        set_seed(0)
        size = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
        trainer = build(make(), data, max_steps=2, logging_steps=1, learning_rate=1e-3, **size)
        if corrected and inspect_model(trainer, probe_loss_scale=True).ignores_num_items:
            trainer.model_accepts_loss_kwargs = False
        trainer.train()
        logs = [log for log in trainer.state.log_history if "loss" in log]
        return [log["loss"] for log in logs], [log["grad_norm"] for log in logs]

    whole, whole_norms = train(8, 1, corrected=True)
    parts, part_norms = train(2, 4, corrected=True)
    stock, stock_norms = train(2, 4, corrected=False)
    assert parts == pytest.approx(whole, rel=1e-4)
    assert part_norms == pytest.approx(whole_norms, rel=1e-4)
    assert stock == pytest.approx([4 * loss for loss in whole], rel=1e-2)
    assert stock_norms == pytest.approx([4 * norm for norm in whole_norms], rel=1e-1)
