"""Texts that become other texts: what is measured, what is cut, what models of several families learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Seq2SeqTrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG
from raytrainer.errors import ArgumentsError
from raytrainer.tasks.factory import TaskFactory
from raytrainer.tasks.seq2seq import Seq2SeqTask
from raytrainer.tasks.text_metrics import text_metrics
from raytrainer.tasks.texts import decode_wanted, decode_written
from raytrainer.tasks.tokenizers import train_tokenizer

pytestmark = pytest.mark.trains

SMALL = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0, "init_std": 0.08}
SMALL |= {
    f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("attention_heads", 4), ("ffn_dim", 64))
}
MODELS: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 64, "num_heads": 4, "num_layers": 1, "dropout_rate": 0.0},
    "marian": {**SMALL, "max_position_embeddings": 32},
    "bart": {**SMALL, "max_position_embeddings": 32},
}


def seq2seq(**data: Any) -> Any:
    model = {"from_config": {"model_type": "t5", **MODELS["t5"]}, "tokenizer": "characters"}
    return CONFIG.validate_python({"name": "x", "task": "seq2seq", "model": model, "data": {"train": "-", **data}})


def tokenizer(*texts: str, kind: str = "characters") -> Any:
    return train_tokenizer(kind, None, texts, "eos", None)


@pytest.mark.parametrize(
    ("written", "wanted", "metrics"),
    [
        ("the cat sat", "the cat sat", {"exact_match": 1, "rouge1": 1, "rouge2": 1, "rougeL": 1, "wer": 0, "cer": 0}),
        # 2 of 3 words both ways, 1 of 2 pairs; one word and two letters of 11 wrong.
        ("the cat sat", "the cow sat", {"rouge1": 2 / 3, "rouge2": 0, "rougeL": 2 / 3, "wer": 1 / 3, "cer": 2 / 11}),
        # Out of order: all words, the longest common run of 2.
        ("sat the cat", "the cat sat", {"rouge1": 1, "rouge2": 1 / 2, "rougeL": 2 / 3, "exact_match": 0}),
        # Letters beyond a to z are letters.
        ("кот спал", "кот спит", {"rouge1": 1 / 2, "wer": 1 / 2}),
        ("", "the cat", {"exact_match": 0, "rouge1": 0, "wer": 1, "cer": 1, "chrf": 0, "bleu": 0}),
        ("one two three four", "one two three four", {"bleu": 100, "chrf": 100}),
        # All 4 words, all pairs, triples, the one four; 4 words for 5: exp(1 - 5/4).
        ("one two three four", "one two three four five", {"bleu": 100 * np.exp(-1 / 4)}),
    ],
)
def test_metrics_are_what_they_are_by_hand(written: str, wanted: str, metrics: dict[str, float]) -> None:
    names = ["exact_match", "chrf", "bleu", "rouge", "wer", "cer"]
    measured = text_metrics(names, [written], [wanted])
    assert {name: measured[name] for name in metrics} == pytest.approx(metrics)


def test_only_the_metrics_that_are_asked_for() -> None:
    assert list(text_metrics(["wer", "exact_match"], ["a"], ["a"])) == ["wer", "exact_match"]


def test_chrf_is_the_f2_of_pieces_of_one_to_six_characters() -> None:
    # One character each of ab and ac in common, no pair: means over two orders 1/4, and F2 of equal values is the same.
    assert text_metrics(["chrf"], ["ab"], ["ac"]) == pytest.approx({"chrf": 25.0})


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<>")), min_size=1))
@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_trained_tokenizers_give_back_what_they_were_given(kind: str, texts: list[str]) -> None:
    known = tokenizer(*texts, kind=kind)
    ids = known(text_target=texts)["input_ids"]
    filled = np.array([row + [-100] * (max(map(len, ids)) - len(row)) for row in ids])
    assert decode_written(known, filled) == decode_wanted(known, filled) == [text.strip() for text in texts]


def test_words_are_given_back_with_spaces_between() -> None:
    known = tokenizer("Ärger, überall", kind="words")
    assert decode_written(known, known(["überall Ärger, Ärger"])["input_ids"]) == ["überall Ärger , Ärger"]


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_what_a_tokenizer_does_not_know_is_never_right(kind: str) -> None:
    known = tokenizer("a b", kind=kind)
    labels = known(["a ü b"])["input_ids"]
    without = known(["a  b"])["input_ids"]
    assert "<unk>" in decode_wanted(known, labels)[0]
    assert decode_written(known, labels) != decode_wanted(known, labels)
    assert decode_written(known, without) != decode_wanted(known, labels)


def test_a_prefix_is_before_sources_and_lengths_hold_for_each_side() -> None:
    rows = Dataset.from_dict({"source": ["abcdef", "c"], "target": ["fedcba", "c"]})
    known = tokenizer("abcdef>")
    task = Seq2SeqTask(seq2seq(prefix=">", max_length=5, max_target_length=4))
    splits, facts = task.prepare(DatasetDict(train=rows), known)
    assert [known.decode(ids) for ids in splits["train"]["input_ids"]] == [">abc</s>", ">c</s>"]
    assert [known.decode(ids) for ids in splits["train"]["labels"]] == ["fed</s>", "c</s>"]
    assert facts == {"longest_target": 4}
    assert next(iter(task.texts(rows))) == ">abcdef"


def test_the_longest_target_of_all_splits_counts() -> None:
    train, test = (Dataset.from_dict({"source": ["a"], "target": [text]}) for text in ("abc", "abcde"))
    _, facts = Seq2SeqTask(seq2seq()).prepare(DatasetDict(train=train, test=test), tokenizer("abcde"))
    assert facts == {"longest_target": 6}


@pytest.mark.parametrize(("value", "reason"), [(None, "some examples have none"), (7, "7 is none")])
@pytest.mark.parametrize("setting", ["source", "target"])
def test_what_is_no_text_is_named(setting: str, value: Any, reason: str) -> None:
    rows = Dataset.from_dict({"source": ["a", "b"], "target": ["a", "b"], setting: [value, value]})
    task = Seq2SeqTask(seq2seq())
    for use in (lambda: task.prepare(DatasetDict(train=rows), tokenizer("ab")), lambda: tokenizer(*task.texts(rows))):
        with pytest.raises(ArgumentsError, match=rf"data\.{setting}.*{reason}"):
            use()


def reversed_words(path: Path, examples: int) -> str:
    rng = random.Random(examples)
    words = ["".join(rng.choice("abcde") for _ in range(rng.randint(2, 4))) for _ in range(examples)]
    path.write_text("\n".join(json.dumps({"source": word, "target": word[::-1]}) for word in words))
    return str(path)


def run(folder: Path, model: dict[str, Any], **training: Any) -> tuple[Any, Any]:
    files = {name: reversed_words(folder / f"{name}.jsonl", n) for name, n in (("train", 2000), ("eval", 50))}
    values = {"data": {**files, "test": files["eval"]}, "model": {"from_config": model, "tokenizer": "characters"}}
    config = CONFIG.validate_python({"name": "x", "task": "seq2seq", "metrics": ["exact_match"], **values})
    run, cache = (Store(str(folder / name), fs.LocalFileSystem()) for name in ("run", "cache"))
    factory = TaskFactory(config, run, cache)
    common = {"per_device_train_batch_size": 32, "learning_rate": 4e-3, "save_strategy": "no", "report_to": "none"}
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder / "out"), use_cpu=True, disable_tqdm=True, warmup_steps=10, **{**common, **training}
    )
    trainer = factory(arguments)
    trainer.train()
    return factory.finish(trainer), trainer


@pytest.mark.parametrize("kind", MODELS)
def test_new_models_learn_to_write_and_their_folder_writes_the_same(kind: str, tmp_path: Path) -> None:
    model = {"model_type": kind, **MODELS[kind]}
    finished, trainer = run(tmp_path, model, max_steps=300, predict_with_generate=True)
    # Nobody guesses a word; how many it gets depends on the last bits, which CPUs differ in.
    assert finished.metrics["eval_exact_match"] > 0.1
    assert finished.metrics["test_exact_match"] == finished.metrics["eval_exact_match"]
    written = [json.loads(line)["prediction"] for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    wanted = [json.loads(line)["target"] for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    right = np.mean([one == other for one, other in zip(written, wanted, strict=True)])
    assert right == finished.metrics["test_exact_match"]
    # Its folder is all that is needed; without a word about lengths it writes as long as the data's targets are.
    loaded, known = (auto.from_pretrained(finished.model) for auto in (AutoModelForSeq2SeqLM, AutoTokenizer))
    sources = [json.loads(line)["source"] for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    asked = known(sources, return_tensors="pt", padding=True, return_token_type_ids=False)
    assert decode_written(known, loaded.eval().generate(**asked).numpy()) == written
    assert loaded.generation_config.max_length == 4 + 1 + 1  # the longest word, the end, the beginning
    assert loaded.config.decoder_start_token_id == loaded.generation_config.decoder_start_token_id == known.pad_token_id
    assert trainer.model.num_parameters() < 200_000


def test_a_given_generation_length_counts(tmp_path: Path) -> None:
    model = {"model_type": "t5", **MODELS["t5"]}
    run(tmp_path, model, max_steps=1, predict_with_generate=True, generation_max_length=3)
    written = [json.loads(line)["prediction"] for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert max(map(len, written)) <= 2


def test_without_generation_there_is_the_loss_alone(tmp_path: Path) -> None:
    finished, _ = run(tmp_path, {"model_type": "t5", **MODELS["t5"]}, max_steps=1, label_smoothing_factor=0.1)
    assert {"eval_loss", "test_loss"} <= finished.metrics.keys()
    assert "eval_exact_match" not in finished.metrics
    assert not (tmp_path / "run/predictions.jsonl").exists()
