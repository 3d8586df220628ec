"""Running text: how it is cut into examples, what is masked in them, and what is measured."""

from __future__ import annotations

import json
import math
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from pyarrow import fs
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG
from raytrainer.errors import ArgumentsError
from raytrainer.tasks.causal_lm import CausalLMTask
from raytrainer.tasks.factory import TaskFactory
from raytrainer.tasks.language_modeling import token_sums
from raytrainer.tasks.masked_lm import MaskedLMTask, Masking
from raytrainer.tasks.packing import token_examples
from raytrainer.tasks.tokenizers import train_tokenizer

pytestmark = pytest.mark.trains

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
LLAMA, BERT = ({"model_type": kind, **SMALL, "max_position_embeddings": 64} for kind in ("llama", "bert"))
LETTERS = "abcdefgh"
TASKS = {"causal-lm": (CausalLMTask, LLAMA, "none"), "masked-lm": (MaskedLMTask, BERT, "pair")}


def config_of(task: str, data: dict[str, Any], **model: Any) -> Any:
    model = model or {"from_config": TASKS[task][1], "tokenizer": "characters"}
    return CONFIG.validate_python({"name": "x", "task": task, "model": model, "data": {"train": "-", **data}})


def tokenizer(ends: str = "none") -> PreTrainedTokenizerFast:
    return train_tokenizer("characters", None, [LETTERS], ends, None)


def examples(texts: list[str], task: str = "causal-lm", **data: Any) -> list[list[int]]:
    raw = DatasetDict(train=Dataset.from_dict({"text": texts}))
    return list(token_examples(config_of(task, data), raw, tokenizer(TASKS[task][2]))["train"]["input_ids"])


@settings(max_examples=30)
@given(st.lists(st.text(LETTERS, max_size=20), min_size=1), st.integers(2, 16))
def test_blocks_are_full_and_in_order_and_nothing_is_lost_but_the_tail(texts: list[str], length: int) -> None:
    known = tokenizer()
    row = [token for text in texts if text for token in [*known(text)["input_ids"], known.eos_token_id]]
    if len(row) < length:
        with pytest.raises(ArgumentsError, match=r"data\.max_length|no text of data\.train has a token"):
            examples(texts, max_length=length)
        return
    blocks = examples(texts, max_length=length)
    assert {len(block) for block in blocks} == {length}
    assert list(chain(*blocks)) == row[: len(row) // length * length]


def test_what_a_batch_of_a_thousand_texts_leaves_over_goes_into_the_next_one() -> None:
    blocks = examples(["abcd"] * 2500, max_length=7)
    assert len(blocks) == 2500 * 5 // 7
    assert blocks[:1000] == [blocks[at % 5] for at in range(1000)]


def test_too_little_text_for_a_block_is_named() -> None:
    with pytest.raises(ArgumentsError, match=r"(?s)data\.max_length = 64.*has 12 tokens in all.*12 or less"):
        examples(["abc", "abcdefg"], max_length=64)


@pytest.mark.parametrize("packing", [True, False])
def test_texts_without_a_token_are_left_out(packing: bool) -> None:
    assert examples(["", "abc", "üü"], packing=packing, max_length=4) == [tokenizer()("abc")["input_ids"] + [2]]
    with pytest.raises(ArgumentsError, match=r"no text of data\.train has a token in it"):
        examples(["", "üü"], packing=packing, max_length=4)


def test_a_text_alone_is_cut_and_one_that_is_whole_ends() -> None:
    known = tokenizer()
    texts = [known.decode(ids) for ids in examples(["ab", "abc", "abcd", "abcdef"], packing=False, max_length=4)]
    assert texts == ["ab</s>", "abc</s>", "abcd", "abcd"]


def test_a_text_that_the_tokenizer_ends_is_not_ended_twice() -> None:
    known = tokenizer("pair")
    assert known.decode(examples(["ab", "cd"], "masked-lm", max_length=8)[0]) == "<s>ab</s><s>cd</s>"


def test_a_tokenizer_without_an_end_is_named() -> None:
    known = tokenizer()
    known.eos_token = known.sep_token = None
    with pytest.raises(ArgumentsError, match=r"no token for the end of a text"):
        token_examples(config_of("causal-lm", {}), DatasetDict(train=Dataset.from_dict({"text": ["a"]})), known)


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(ArgumentsError, match=r"data\.text.*it must be text, and 3 is none"):
        examples([3])  # type: ignore[list-item]  # that is the mistake


def test_padding_is_no_label_and_an_end_is_one_even_where_they_are_the_same_token() -> None:
    known = tokenizer()
    known.pad_token = known.eos_token
    a, b, end = (known.get_vocab()[token] for token in ("a", "b", "</s>"))
    batch = CausalLMTask(config_of("causal-lm", {})).collator(known)([{"input_ids": [a, b, end]}, {"input_ids": [a]}])
    assert batch["input_ids"].tolist() == [[a, b, end], [a, end, end]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[a, b, end], [a, -100, -100]]


@pytest.mark.parametrize("shift", [0, 1])
def test_sums_of_an_example_by_hand(shift: int) -> None:
    # Probabilities of tokens 0 and 1 at three places, the same for both examples.
    logits = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]] * 2).log()
    labels = torch.tensor([[-100, 1, 0], [0, 0, -100]])
    if shift:
        labels = torch.cat([torch.tensor([[7], [7]]), labels], dim=1)[:, :3]  # what comes next, a place later
        labels[:, 0] = -100
    sums = token_sums((logits, "other outputs"), labels, shift)
    wanted = {
        0: [[-math.log(0.75 * 0.9), 2, 2], [-math.log(0.5 * 0.25), 1, 2]],
        # The last place says what comes after the end: nothing to compare it with.
        1: [[-math.log(0.75), 1, 1], [-math.log(0.5 * 0.25), 1, 2]],
    }
    assert sums.tolist() == [pytest.approx(row) for row in wanted[shift]]


def test_the_masks_of_an_evaluation_are_made_once_and_those_of_training_are_drawn() -> None:
    rows = Dataset.from_dict({"text": [LETTERS * 8] * 20})
    known, task = tokenizer("pair"), MaskedLMTask(config_of("masked-lm", {"max_length": 33}))
    splits, again = (task.prepare(DatasetDict(train=rows, eval=rows), known)[0] for _ in range(2))
    assert splits["train"].column_names == ["input_ids"]
    assert splits["eval"].to_dict() == again["eval"].to_dict()
    for hidden, labels, whole in zip(
        splits["eval"]["input_ids"], splits["eval"]["labels"], splits["train"]["input_ids"], strict=True
    ):
        # Each label is what was there, and what is no label was left as it was.
        seen = [(one, other) for one, other in zip(hidden, labels, strict=True)]
        assert [label if label >= 0 else one for one, label in seen] == whole
    flat = list(chain(*splits["eval"]["labels"]))
    assert 0.1 < np.mean([label >= 0 for label in flat]) < 0.2
    assert not set(flat) & {known.cls_token_id, known.sep_token_id, known.pad_token_id}
    collate = task.collator(known)
    assert collate(list(splits["eval"]))["labels"].tolist() == splits["eval"]["labels"]
    one, other = (collate(list(splits["train"]))["labels"].tolist() for _ in range(2))
    assert one != other


def test_every_batch_has_a_masked_token_unless_there_is_none() -> None:
    known = tokenizer("pair")
    mask = Masking(known, 0.01, seed=0)
    for _ in range(20):
        assert sum(label >= 0 for label in mask.one({"input_ids": known("a")["input_ids"]})["labels"]) == 1
    assert mask.one({"input_ids": known("ü")["input_ids"]})["labels"] == [-100] * 3


def test_a_tokenizer_that_cannot_mask_is_named() -> None:
    known = tokenizer()
    known.mask_token = None
    task = MaskedLMTask(config_of("masked-lm", {}, name="./gpt"))
    with pytest.raises(ArgumentsError, match=r"model\.name.*has no mask token"):
        task.prepare(DatasetDict(train=Dataset.from_dict({"text": ["a"]})), known)


def run(folder: Path, task: str, data: dict[str, Any], model: dict[str, Any], **training: Any) -> tuple[Any, Any]:
    for name, count in (("train", 400), ("eval", 41)):
        texts = [LETTERS[at % 8 :] + LETTERS[: at % 8] for at in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    files = {"train": str(folder / "train.jsonl"), **dict.fromkeys(["eval", "test"], str(folder / "eval.jsonl"))}
    run, cache = (Store(str(folder / name), fs.LocalFileSystem()) for name in ("run", "cache"))
    factory = TaskFactory(config_of(task, {**files, "max_length": 16, **data}, **model), run, cache)
    values = {"per_device_train_batch_size": 16, "per_device_eval_batch_size": 16, "learning_rate": 1e-2, **training}
    out = str(folder / "out")
    trainer = factory(
        TrainingArguments(out, use_cpu=True, disable_tqdm=True, save_strategy="no", report_to="none", **values)
    )
    trainer.train()
    return factory.finish(trainer), trainer


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_models_learn_and_perplexity_is_e_to_the_loss(task: str, packing: bool, tmp_path: Path) -> None:
    finished, trainer = run(tmp_path, task, {"packing": packing}, {}, max_steps=100 if task == "causal-lm" else 400)
    metrics = finished.metrics
    assert metrics["eval_perplexity"] == math.exp(metrics["eval_loss"])
    assert metrics["test_perplexity"] == math.exp(metrics["test_loss"])
    rows = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == len(trainer.eval_dataset) == (41 * (9 + (task == "masked-lm")) // 16 if packing else 41)
    total = sum(row["tokens"] for row in rows)
    assert sum(row["accuracy"] * row["tokens"] for row in rows) / total == pytest.approx(metrics["test_accuracy"])
    assert sum(row["loss"] * row["tokens"] for row in rows) / total == pytest.approx(metrics["test_loss"])
    if packing and task == "causal-lm":
        # All tokens of a full batch weigh the same, so transformers' mean over batches is theirs too.
        assert {row["tokens"] for row in rows} == {15}
        trainer.args.per_device_eval_batch_size = len(rows)
        theirs = Trainer.evaluation_loop(trainer, trainer.get_eval_dataloader(), "").metrics
        assert metrics["eval_loss"] == pytest.approx(theirs["eval_loss"], rel=1e-6)  # type: ignore[index]  # it is there
    # The letters go round, each as often as the others; what is next, or hidden, can be known but for the ends.
    assert metrics["eval_accuracy"] > 1.5 / len(LETTERS)
    auto = {"causal-lm": AutoModelForCausalLM, "masked-lm": AutoModelForMaskedLM}[task]
    assert auto.from_pretrained(finished.model).config.vocab_size == len(AutoTokenizer.from_pretrained(finished.model))


@pytest.fixture
def local_model(tmp_path: Path) -> Path:
    known = tokenizer()
    special = {name: getattr(known, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(**LLAMA, vocab_size=len(known), **special)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llama")
    known.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_an_adapter_is_kept_and_the_model_is_what_it_makes(local_model: Path, tmp_path: Path) -> None:
    peft = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    data = {"packing": False}
    finished, _ = run(tmp_path, "causal-lm", data, {"name": str(local_model), "peft": peft}, max_steps=30)
    asked = AutoTokenizer.from_pretrained(finished.model)([LETTERS], return_tensors="pt", return_token_type_ids=False)
    before, model = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (local_model, finished.model))
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert not (Path(finished.model) / "adapter_config.json").exists()
    with torch.no_grad():
        untrained, whole = before(**asked).logits, model(**asked).logits
        adapted = PeftModel.from_pretrained(before, str(tmp_path / "run/adapter")).eval()(**asked).logits
    assert torch.allclose(whole, adapted, atol=1e-5)
    assert (whole - untrained).abs().max() > 0.1
