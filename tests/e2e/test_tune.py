"""A sweep on the command line: what it leaves, and the shipped ones, small."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer

from raytrainer.checkpoints import Store
from raytrainer.sweep.record_files import read_trials
from raytrainer.sweep.records import Trial
from tests.e2e.words import ROOT, raytrainer, write_words

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
SWEEP: dict[str, Any] = {
    "base": "run.yaml",
    # The figures of a checkpoint that is evaluated in another program shall be the same ones.
    "precision": "fp32",
    "scaling": {"num_workers": 1},
    "search_space": {
        "training.learning_rate": {"loguniform": [1.0e-4, 1.0e-2]},
        f"training.{BATCH}": {"choice": [8, 16]},
        f"training.{ACCUMULATION}": {"expr": f"16 // training.{BATCH}"},
    },
    "tune": {
        **{"metric": "eval_loss", "mode": "min", "num_samples": 4, "max_concurrent_trials": 2, "refit": True},
        "scheduler": {"asha": {"grace_period": 20, "reduction_factor": 2}},
    },
}


def test_a_sweep_leaves_a_config_and_a_model_that_keep_their_word(tmp_path: Path) -> None:
    write_words(tmp_path, mlflow=None)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    printed = raytrainer("tune", "sweep.yaml", folder=tmp_path)
    sweep = tmp_path / "runs" / "words-sweep"
    told = json.loads((sweep / "results.json").read_text())
    best = told["trials"][0]
    # The table, and where everything is.
    assert "learning_" in printed and "Against plain random search" in printed
    for name in ("report.html", "best.yaml", "model"):
        assert f"{sweep / name}\n" in printed and (sweep / name).exists()
    with (sweep / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [row["trial"] for row in told["trials"]]
    assert sorted(row["trial"] for row in told["trials"]) == [1, 2, 3, 4]
    assert best["eval_loss"] == min(row["eval_loss"] for row in told["trials"])
    assert {row[f"training.{ACCUMULATION}"] * row[f"training.{BATCH}"] for row in told["trials"]} == {16}
    # Of all checkpoints one is left, the best trial's.
    assert [trial.checkpoints for trial in trials(sweep) if trial.checkpoints] == [(best["steps"],)]

    # best.yaml by itself: the same training, to the last bit.
    raytrainer("train", str(sweep / "best.yaml"), folder=tmp_path)
    run = tmp_path / "runs" / "words-sweep-best"
    assert json.loads((run / "outcome.json").read_text())["metrics"]["eval_loss"] == best["eval_loss"]
    again, exported = (load_file(folder / "model" / "model.safetensors") for folder in (run, sweep))
    assert again.keys() == exported.keys() and all(torch.equal(again[name], exported[name]) for name in again)
    # The sweep's model is all that it takes: it says what that run's predictions say.
    model = AutoModelForSequenceClassification.from_pretrained(sweep / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(sweep / "model")
    texts = [json.loads(line)["text"] for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    predicted = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    labels = [model.config.id2label[number] for number in logits.argmax(-1).tolist()]
    assert labels == [row["prediction"] for row in predicted]
    scores = logits.softmax(-1).max(-1).values.tolist()
    assert scores == pytest.approx([row["score"] for row in predicted], rel=1e-4)

    # The refit: all data, the best values, nothing left to choose by.
    refit = yaml.safe_load((sweep / "refit" / "config.yaml").read_text())
    assert refit["data"]["train"] == ["train.jsonl", "eval.jsonl"] and refit["data"]["eval"] is None
    assert refit["training"]["learning_rate"] == best["training.learning_rate"]
    state = json.loads((sweep / "refit" / "trainer_state.json").read_text())
    assert state["global_step"] == 40 and state["epoch"] == pytest.approx(40 * 16 / 451, abs=0.05)
    AutoModelForSequenceClassification.from_pretrained(sweep / "refit" / "model")

    # A sweep of that name is there, and is not touched.
    assert "there is a sweep of that name" in raytrainer("tune", "sweep.yaml", folder=tmp_path, status=2)


def shipped(name: str, data: str, folder: Path, *settings: str) -> tuple[list[Trial], dict[str, Any], str]:
    """Run a sweep of tune_configs, and return its trials, its results and what it printed."""
    write = [sys.executable, str(ROOT / "examples" / "data.py"), data, "--folder", str(folder / "examples" / "data")]
    subprocess.run(write, check=True)
    small = ["mlflow=null", "data.max_samples={train: 400, eval: 120}", *settings]
    printed = raytrainer("tune", str(ROOT / "tune_configs" / f"{name}.yaml"), *small, folder=folder)
    (sweep,) = (folder / "runs").glob("*/results.json")
    assert (sweep.parent / "report.html").exists() and (sweep.parent / "model" / "model.safetensors").exists()
    return trials(sweep.parent), json.loads(sweep.read_text()), printed


def trials(sweep: Path) -> list[Trial]:
    return read_trials(Store(str(sweep)))


@pytest.mark.slow
def test_learning_rate_and_batch(tmp_path: Path) -> None:
    asha = "tune.scheduler={asha: {grace_period: 8, reduction_factor: 2}}"
    small = ["training.max_steps=16", "tune.num_samples=6", asha]
    found, results, _ = shipped("learning_rate_and_batch", "names", tmp_path, *small)
    assert [trial.record.origin for trial in found] == ["default", *["random"] * 5]
    assert found[0].record.values["training.learning_rate"] == 3e-3  # the example's
    # Who was behind at its eighth step ended there.
    stopped = [trial for trial in found if trial.state == "stopped"]
    assert stopped and all(t.end.reason == "asha" and t.record.history[-1].step in (8, 12) for t in stopped)
    assert {t.record.history[-1].step for t in found if t.state == "finished"} == {16}
    for trial in found:
        # What transformers was given, on the worker.
        used = {f"training.{name}": value for name, value in trial.record.arguments.items()}
        assert trial.record.values.items() <= used.items()
    assert results["trials"][0]["eval_accuracy"] == max(row["eval_accuracy"] for row in results["trials"])


@pytest.mark.slow
def test_optuna_tpe(tmp_path: Path) -> None:
    small = ["training.max_steps=8", "tune.num_samples=5", "tune.budget.patience=20"]
    tpe = "tune.search={optuna: {sampler: tpe, n_startup_trials: 2}}"
    found, results, _ = shipped("optuna_tpe", "digits", tmp_path, *small, tpe)
    # What was known, what was drawn at random to begin with, and what Optuna made of both.
    assert [trial.record.origin for trial in found][0::4] == ["known", "model"]
    assert found[0].record.values == {
        **{"training.learning_rate": 2e-3, "training.weight_decay": 0.0, "training.label_smoothing_factor": 0.0},
        "model.from_config.hidden_dropout_prob": 0.0,
    }
    assert {trial.state for trial in found} == {"finished"}
    rates = [trial.record.arguments["learning_rate"] for trial in found]
    assert len(set(rates)) == 5 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "runs" / "optuna-tpe" / "model")
    assert model.config.hidden_dropout_prob == results["trials"][0]["model.from_config.hidden_dropout_prob"]


@pytest.mark.slow
def test_pbt(tmp_path: Path) -> None:
    pbt = "tune.scheduler={pbt: {perturbation_interval: 8, quantile_fraction: 0.5, synch: true}}"
    small = ["training.max_steps=16", "training.eval_steps=8", "tune.num_samples=4", pbt]
    found, results, _ = shipped("pbt", "names", tmp_path, *small)
    assert len(found) == 4 and {trial.state for trial in found} == {"finished"}
    changes = [change for trial in found for change in trial.record.changes]
    assert changes and all(change.step in (8, 16) for change in changes)
    ids = {trial.record.number: trial.record.id for trial in found}
    assert all(ids[change.donor_number or 0] == change.donor for change in changes)
    for change in changes:
        assert 3e-4 <= change.values["training.learning_rate"] <= 1e-2
    head = (tmp_path / "runs" / "pbt" / "best.yaml").read_text()
    best = found[results["trials"][0]["trial"] - 1]
    assert f"trial {best.record.number}" in head and ("changed while it trained" in head) == bool(best.record.changes)
    # What the population saved to go on from each other is gone.
    assert sum(len(trial.checkpoints) for trial in found) == 1


@pytest.mark.slow
def test_grid_baseline(tmp_path: Path) -> None:
    grid = ["search_space.training.learning_rate={grid: [1.0e-3, 4.0e-3]}"]
    grid += ["search_space.training.per_device_train_batch_size=null"]
    found, results, printed = shipped(
        "grid_baseline", "tagged_dates", tmp_path, "training.max_steps=6", "tune.repeats=2", *grid
    )
    rates = [(trial.record.origin, trial.record.values["training.learning_rate"]) for trial in found]
    assert sorted(rates) == sorted([("default", 2e-3), ("grid", 1e-3), ("grid", 4e-3)] * 2)
    groups: dict[Any, list[Trial]] = {}
    for trial in found:
        groups.setdefault(trial.record.group, []).append(trial)
    for repeats in groups.values():
        assert len({trial.record.arguments["seed"] for trial in repeats}) == 2
        assert len({trial.record.history[-1].metrics["eval_loss"] for trial in repeats}) == 2
    assert "mean ± sd (runs)" in printed and "(2)" in printed
    (verdict,) = (v for v in results["verdicts"] if v["question"] == "Against the base configuration")
    assert verdict["finding"] != "not measured"
