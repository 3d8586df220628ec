"""distribute() gives any Trainer subclass what RayTrainer has, whatever its constructor takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from ray.train import ScalingConfig
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from raytrainer import RayTrainer, RayTrainingArguments, distribute
from tests.ray.recipes import COMMON, LETTERS, tiny_bert, tokenizer, vowels

pytestmark = pytest.mark.ray

SHORT = {**COMMON, "max_steps": 3, "eval_strategy": "no"}


class ClassifierTrainer(Trainer):
    """Takes what no Trainer takes, and makes the model itself."""

    def __init__(self, classes: int, settings: TrainingArguments, *, rows: int = 8) -> None:
        super().__init__(
            model=tiny_bert(classes, len(tokenizer())),
            args=settings,
            train_dataset=vowels(rows, 1),
            eval_dataset=vowels(5, 2),
            processing_class=tokenizer(),
        )
        self.classes = classes


def test_a_constructor_with_other_arguments(tmp_path: Path, ray_cluster: None) -> None:
    kind = distribute(ClassifierTrainer)
    assert issubclass(kind, ClassifierTrainer) and kind.__name__ == "ClassifierTrainer"
    arguments = RayTrainingArguments(tmp_path, **SHORT)
    trainer: Any = kind(3, arguments, rows=16, scaling_config=ScalingConfig(num_workers=2))  # type: ignore[call-arg]  # distribute adds it
    assert isinstance(trainer, ClassifierTrainer)
    assert trainer.train().global_step == 3
    # The constructor runs here only now, and finds the trained weights.
    assert trainer.classes == 3
    trained = trainer.model.classifier.weight
    assert trained.shape == (3, 16)
    assert not torch.equal(trained, tiny_bert(3, len(tokenizer())).classifier.weight)
    # Three classes, hardly trained: near log(3), and not twice that for two workers.
    assert trainer.evaluate()["eval_loss"] == pytest.approx(1.1, abs=0.2)


def test_distribute_leaves_alone_what_is_distributed() -> None:
    assert distribute(RayTrainer) is RayTrainer
    once = distribute(ClassifierTrainer)
    assert distribute(once) is once


def test_trl_sft(tmp_path: Path, ray_cluster: None) -> None:
    trl = pytest.importorskip("trl")
    chars = tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(chars), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    before = model.lm_head.weight.clone()
    trainer = distribute(trl.SFTTrainer)(
        model=model,
        args=trl.SFTConfig(str(tmp_path), use_cpu=True, bf16=False, max_length=16, **SHORT),
        train_dataset=Dataset.from_dict({"text": [LETTERS[i : i + 6] for i in range(20)]}),
        processing_class=chars,
        scaling_config=ScalingConfig(num_workers=2),
    )
    assert trainer.train().global_step == 3
    assert "mean_token_accuracy" in trainer.state.log_history[0]
    assert trainer.model is model and not torch.equal(before, model.lm_head.weight)


@pytest.mark.slow
def test_sentence_transformers(tmp_path: Path, ray_cluster: None) -> None:
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path / "encoder"
    bert: Any = tiny_bert(vocabulary=len(tokenizer())).bert
    bert.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    body = Transformer(str(folder))
    model = st.SentenceTransformer(modules=[body, Pooling(16)], device="cpu")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows: dict[str, list[Any]] = {
        "one": ["abc", "def", "ghi", "jkl"],
        "two": ["abd", "xyz", "ghj", "uvw"],
        "score": [0.9, 0.1, 0.9, 0.1],
    }
    trainer = distribute(st.SentenceTransformerTrainer)(
        model=model,
        args=st.SentenceTransformerTrainingArguments(str(tmp_path / "out"), use_cpu=True, **SHORT),
        train_dataset=Dataset.from_dict({name: values * 8 for name, values in rows.items()}),
        loss=CosineSimilarityLoss(model),
        scaling_config=ScalingConfig(num_workers=2),
    )
    assert trainer.train().global_step == 3
    assert any(not torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
