"""The examples of the classification tasks as a user runs them: better than always saying what is most frequent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from tests.e2e.words import ROOT, raytrainer

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.parametrize(
    "example, data, label, baseline, wanted",
    [
        ("text_classification", "names", "label", 0.15, 0.72),
        ("token_classification", "tagged_dates", "tags", 0.25, 0.95),
        ("image_classification", "digits", "label", 0.15, 0.90),
    ],
)
def test_learns(example: str, data: str, label: str, baseline: float, wanted: float, tmp_path: Path) -> None:
    folder = tmp_path / "examples" / "data"
    subprocess.run([sys.executable, str(ROOT / "examples/data.py"), data, "--folder", str(folder)], check=True)
    raytrainer("train", str(ROOT / f"examples/{example}.yaml"), "mlflow=null", folder=tmp_path)
    rows = [json.loads(line)[label] for line in (folder / data / "eval.jsonl").read_text().splitlines()]
    frequent = Counter(chain.from_iterable(row if isinstance(row, list) else [row] for row in rows))
    assert max(frequent.values()) / frequent.total() < baseline
    (run,) = (tmp_path / "runs").glob("*/outcome.json")
    metrics, history = (
        json.loads((run.parent / file).read_text())[part]
        for file, part in (("outcome.json", "metrics"), ("trainer_state.json", "log_history"))
    )
    assert metrics["eval_accuracy"] > wanted
    # Uneven for two workers: accuracy is a share of exactly the examples that there are.
    if label == "label":
        assert metrics["eval_accuracy"] * len(rows) == pytest.approx(round(metrics["eval_accuracy"] * len(rows)))
        # The best model, not the last one.
        assert metrics["eval_accuracy"] == max(entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry)
