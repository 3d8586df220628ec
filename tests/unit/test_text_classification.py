"""Text classification: what each kind of label becomes, pairs of texts, and an adapter."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raytrainer.config.schema import CONFIG
from raytrainer.errors import UserError
from raytrainer.tasks.metrics import regression
from raytrainer.tasks.text_classification import MULTI, SINGLE, TextClassificationTask
from tests.unit.task_rows import BERT, WORDS, Example
from tests.unit.test_tasks import TEST, Case

pytestmark = pytest.mark.trains


def case_of(folder: Path, **changes: Any) -> Case:
    """Texts of good or bad words; each change is a column, made of the text's words."""
    case = Case("text-classification", folder)
    for name, examples in case.examples.items():
        for example in examples:
            example.update({column: make(example) for column, make in changes.items()})
        case.write(name)
    return case


def goodness(example: Example) -> float:
    words = example["text"].split()
    return sum(word in WORDS["good"] for word in words) / len(words)


def mix(case: Case) -> None:
    """Give every text good and bad words."""
    rng = Random(1)
    for examples in case.examples.values():
        for example in examples:
            example["text"] = " ".join(rng.choices([*WORDS["good"], *WORDS["bad"]], k=rng.randint(1, 3)))


def trained(case: Case, **data: Any) -> tuple[Any, dict[str, float], list[Any]]:
    factory = case.factory(**data)
    trainer: Any = factory(case.arguments(max_steps=80, learning_rate=5e-3))
    trainer.train()
    metrics = factory.finish(trainer).metrics
    rows = (case.folder / "run" / "predictions.jsonl").read_text().splitlines()
    assert len(rows) == TEST
    return trainer.model, metrics, [json.loads(row)["prediction"] for row in rows]


def test_pairs(tmp_path: Path) -> None:
    """Whether both texts are of one mind: neither of them alone says it."""
    rng = Random(2)
    case = case_of(tmp_path)
    for name, examples in case.examples.items():
        for example in examples:
            other = rng.choice(["good", "bad"])
            example["other"] = rng.choice(WORDS[other])
            example["label"] = int(other == example["label"])
        case.write(name)
    trainer: Any = case.factory(text_pair="other")(case.arguments())
    tokenizer, ids = trainer.processing_class, trainer.train_dataset[0]["input_ids"]
    first = case.examples["train"][0]
    assert tokenizer.decode(ids) == tokenizer.decode(tokenizer(first["text"], first["other"])["input_ids"])
    assert trainer.model.config.id2label == {0: "0", 1: "1"}
    with pytest.raises(UserError, match=r"data\.text_pair = 'othr'.*\n.*write 'other'"):
        case.trainer(text_pair="othr")


def several(example: Example) -> list[str]:
    return [kind for kind in ("bad", "good") if any(word in WORDS[kind] for word in example["text"].split())]


@pytest.mark.parametrize("columns", [False, True])
def test_several_labels(columns: bool, tmp_path: Path) -> None:
    case = case_of(tmp_path)
    mix(case)
    for name, examples in case.examples.items():
        for example in examples:
            example["label"] = several(example)
            example |= {"good": int("good" in example["label"]), "bad": int("bad" in example["label"])}
        case.write(name)
    model, metrics, predicted = trained(case, label=["bad", "good"] if columns else "label")
    assert model.config.problem_type == "multi_label_classification"
    assert set(metrics) >= {f"test_{name}" for name in ("accuracy", "f1", "precision", "recall", "f1_macro")}
    assert metrics["test_accuracy"] > 0.8
    right = [set(row) == set(several(e)) for row, e in zip(predicted, case.examples["test"], strict=True)]
    assert sum(right) / len(right) == pytest.approx(metrics["test_accuracy"])


@pytest.mark.parametrize("value", ["0", "no", -1, math.nan, None, [1]])
def test_a_column_of_one_of_several_labels_has_zeros_and_ones(value: Any) -> None:
    config = CONFIG.validate_python(
        {"name": "x", "task": "text-classification", "model": BERT, "data": {"train": "-", "label": ["a", "b"]}}
    )
    task = TextClassificationTask(config)
    right = Dataset.from_dict({"a": [0, 1], "b": [True, False]})
    assert task._labels(right, MULTI, ["a", "b"], "eval") == [[0.0, 1.0], [1.0, 0.0]]
    wrong = Dataset.from_dict({"a": [value, value], "b": [1.0, 0.0]})
    with pytest.raises(UserError, match=rf"data.label = 'a': .*in data.eval this one has {re.escape(repr(value))}"):
        task._labels(wrong, MULTI, ["a", "b"], "eval")


@pytest.mark.parametrize(
    ("asked", "label", "reason"), [(SINGLE, ["bad"], "has lists of labels"), (MULTI, "bad", "has one label an example")]
)
def test_a_problem_type_that_the_column_is_not(asked: str, label: Any, reason: str) -> None:
    data = {"train": "-", "problem_type": asked}
    config = CONFIG.validate_python({"name": "x", "task": "text-classification", "model": BERT, "data": data})
    raw = DatasetDict(train=Dataset.from_dict({"text": ["fine", "poor"], "label": [label, label]}))
    with pytest.raises(UserError, match=rf"data.problem_type = '{asked}': .*{reason}"):
        TextClassificationTask(config).prepare(raw, None)


def test_a_training_that_diverged_is_measured_as_such() -> None:
    measured = regression(np.array([np.nan, 1.0]), np.array([0.0, 1.0]))
    assert measured.keys() == regression(np.array([0.0, 1.0]), np.array([0.0, 1.0])).keys()
    assert all(map(math.isnan, measured.values()))


def test_numbers_are_estimated(tmp_path: Path) -> None:
    case = case_of(tmp_path)
    mix(case)
    for name, examples in case.examples.items():
        for example in examples:
            example["label"] = goodness(example)
        case.write(name)
    model, metrics, predicted = trained(case)
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
    wanted = [example["label"] for example in case.examples["test"]]
    mean_error = sum(abs(one - other) for one, other in zip(predicted, wanted, strict=True)) / TEST
    assert metrics["test_mae"] == pytest.approx(mean_error, rel=1e-3)
    assert metrics["test_pearson"] > 0.8


def test_whole_numbers_are_estimated_where_the_config_says_so(tmp_path: Path) -> None:
    case = case_of(tmp_path, label=lambda example: int(10 * goodness(example)))
    trainer = case.trainer(problem_type="regression")
    assert trainer.train_dataset[0]["labels"] == float(case.examples["train"][0]["label"])
    assert trainer.model.config.num_labels == 1
    with pytest.raises(UserError, match=r"data.label = 'text': for regression it must be a number"):
        case.trainer(label="text", problem_type="regression")


def test_class_labels_and_given_names(tmp_path: Path) -> None:
    case = case_of(tmp_path)
    names = ["good", "bad"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    for name, examples in case.examples.items():
        rows = [{"text": e["text"], "label": names.index(e["label"])} for e in examples]
        Dataset.from_list(rows, features=features).save_to_disk(tmp_path / name)
    folders = {name: str(tmp_path / name) for name in case.examples}
    first = case.examples["train"][0]["label"]
    trainer = case.trainer(**folders)
    assert trainer.model.config.id2label == {0: "good", 1: "bad"}
    assert trainer.train_dataset[0]["labels"] == names.index(first)
    trainer = case.trainer(**folders, labels=["bad", "good", "ugly"])
    assert trainer.model.config.id2label == {0: "bad", 1: "good", 2: "ugly"}
    assert trainer.train_dataset[0]["labels"] == ["bad", "good"].index(first)


def test_texts_must_be_texts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.text = 'number': it must be text, and 0 is none"):
        case_of(tmp_path).trainer(text="number")
    with pytest.raises(UserError, match=r"data.text = 'text': some examples have none"):
        case_of(tmp_path, text=lambda example: None if example["number"] == 3 else "some").trainer()


def test_an_adapter_trains_and_the_model_is_whole_without_it(tmp_path: Path) -> None:
    case = Case("text-classification", tmp_path)
    factory = case.factory(model={"peft": {"r": 4, "lora_alpha": 16, "target_modules": ["query", "value"]}})
    trainer: Any = factory(case.arguments(max_steps=40, learning_rate=2e-2))
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name or "classifier.modules_to_save" in name for name in changed)
    assert any("lora_B" in name for name in changed) and any("classifier" in name for name in changed)

    tokenizer = trainer.processing_class
    batch = tokenizer(["fine great", "poor sad"], return_tensors="pt")
    trainer.model.eval()
    with torch.no_grad():
        wanted = trainer.model(**batch).logits
    finished = factory.finish(trainer)
    assert finished.metrics["eval_accuracy"] > 0.8
    whole = AutoModelForSequenceClassification.from_pretrained(finished.model).eval()
    assert not any("lora" in name for name in whole.state_dict())
    with torch.no_grad():
        assert torch.allclose(whole(**batch).logits, wanted, atol=1e-5)
    assert AutoTokenizer.from_pretrained(finished.model)("fine")["input_ids"] == tokenizer("fine")["input_ids"]
    base = case.factory()(case.arguments()).model
    adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(adapted(**batch).logits, wanted, atol=1e-5)


def test_a_wrong_adapter_is_named(tmp_path: Path) -> None:
    case = Case("text-classification", tmp_path)
    for fields in ({"target_modules": ["no_such_layer"]}, {"rank": 4}):
        with pytest.raises(UserError, match=r"model\.peft = "):
            case.factory(model={"peft": fields})(case.arguments())
