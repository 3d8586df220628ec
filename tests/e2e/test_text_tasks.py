"""The examples of the language tasks as a user runs them, against baselines counted from the same data."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests.e2e.words import ROOT, raytrainer

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def run(example: str, data: str, folder: Path) -> dict[str, float]:
    """Write the data, train, and return the metrics at the end."""
    write = [sys.executable, str(ROOT / "examples" / "data.py"), data, "--folder", str(folder / "examples" / "data")]
    subprocess.run(write, check=True)
    raytrainer("train", str(ROOT / "examples" / f"{example}.yaml"), "mlflow=null", folder=folder)
    (outcome,) = (folder / "runs").glob("*/outcome.json")
    metrics: dict[str, float] = json.loads(outcome.read_text())["metrics"]
    return metrics


def column(folder: Path, data: str, split: str, name: str) -> list[str]:
    lines = (folder / "examples" / "data" / data / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line)[name] for line in lines]


@pytest.mark.slow
def test_dates_are_read(tmp_path: Path) -> None:
    metrics = run("seq2seq", "dates", tmp_path)
    assert metrics["eval_exact_match"] > 0.7  # 0.92 here; an untrained model's is 0
    # 500 dates are no multiple of two workers' batches, and none counts twice.
    assert metrics["eval_exact_match"] * 500 == pytest.approx(round(metrics["eval_exact_match"] * 500))
    model, tokenizer = (
        kind.from_pretrained(tmp_path / "runs/dates/model") for kind in (AutoModelForSeq2SeqLM, AutoTokenizer)
    )
    asked = tokenizer("7 February 2031", return_tensors="pt", return_token_type_ids=False)
    (written,) = tokenizer.batch_decode(model.generate(**asked), skip_special_tokens=True)
    assert written.startswith("20")


@pytest.mark.slow
def test_prose_is_foreseen_better_than_by_counting_pairs_of_letters(tmp_path: Path) -> None:
    metrics = run("causal_lm", "docstrings", tmp_path)
    # What a text ends with is a letter too.
    train = "".join(f"{text}\0" for text in column(tmp_path, "docstrings", "train", "text"))
    test = "".join(f"{text}\0" for text in column(tmp_path, "docstrings", "eval", "text")[:200])
    letters, pairs = Counter(train), Counter(pairwise(train))
    losses = [-math.log((pairs[pair] + 1) / (letters[pair[0]] + len(letters))) for pair in pairwise(test)]
    bigrams = math.exp(sum(losses) / len(losses))
    assert 10 < bigrams < 20
    assert metrics["eval_perplexity"] < 0.7 * bigrams
    assert metrics["eval_perplexity"] == math.exp(metrics["eval_loss"])


@pytest.mark.slow
def test_holes_in_dates_are_filled_better_than_with_the_most_frequent_character(tmp_path: Path) -> None:
    metrics = run("masked_lm", "dates", tmp_path)
    characters = Counter("".join(column(tmp_path, "dates", "eval", "source")))
    share = max(characters.values()) / characters.total()
    assert metrics["eval_accuracy"] > 3 * share  # 0.60 here, against 0.14
