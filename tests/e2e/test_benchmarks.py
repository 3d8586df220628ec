"""Every benchmark with figures as JSON runs at toy size: its parties, its goals, its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.words import ROOT

FOLDER = ROOT / "benchmarks"
ON_A_CLUSTER = {
    "throughput": ["--rounds=1", "--steps=12", "--warm-up=4", "--batch=4"],
    "report_latency": ["--rounds=1", "--steps=20", "--reports=3", "--compute=1"],
    "shipping": ["--rounds=1", "--megabytes=8", "--of-workers", "2"],
    "scale": ["--trials=30", "--blocks=3", "--at-once=8", "--nodes=2", "--of-workers", "2"],
}
GOALS = {"throughput": 1, "report_latency": 6, "shipping": 3, "scale": 1}


def run(name: str, options: list[str], file: Path) -> dict[str, Any]:
    """Run a benchmark, which may miss its goals here, and return what it wrote."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *options, "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(file.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, 1) and file.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    told: dict[str, Any] = json.loads(file.read_text())
    assert (told["benchmark"], told["versions"]["python"]) == (name, sys.version.split()[0])
    assert done.returncode == (not all(goal["reached"] for goal in told["goals"]))
    return told


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", ON_A_CLUSTER)
def test_it_runs_with_all_its_parties(name: str, tmp_path: Path) -> None:
    told = run(name, ON_A_CLUSTER[name], tmp_path / "told.json")
    assert len(told["goals"]) == GOALS[name]
    assert all(goal["measured"] > 0 for goal in told["goals"])


def test_the_gpu_benchmark_runs_without_a_gpu(tmp_path: Path) -> None:
    short = ["--windows=2", "--steps=1", "--warm-up=1"]
    told = run("gpu", ["--toy", "--parts", "amp", "means", *short], tmp_path / "told.json")
    assert told["results"]["toy"]
    amp = told["results"]["amp"]
    assert amp["fp16 scaler"]["right"] and amp["bf16 against fp32"]["right"]
    assert amp["fp8"]["seen"].startswith("skipped: ")
    failed = {row["means"] for row in told["results"]["means"] if row["failed"]}
    assert failed <= {"attention: flash_attention_2"}  # a package of its own, which needs a GPU
    assert all(len(row["windows_s"]) == 2 for row in told["results"]["means"] if row["means"] not in failed)


@pytest.mark.slow
@pytest.mark.ray
def test_the_gpu_benchmark_trains_every_model_in_every_way(tmp_path: Path) -> None:
    short = ["--windows=2", "--steps=1", "--warm-up=1"]
    told = run("gpu", ["--toy", "--parts", "models", *short], tmp_path / "told.json")
    ways = {(row["model"], row["way"]) for row in told["results"]["models"] if row["failed"] is None}
    every = ("raytrainer", "transformers", "its defaults", "by hand")
    assert ways == {(model, way) for model in ("decoder toy", "T5 toy") for way in every}


@pytest.mark.parametrize("name", [*ON_A_CLUSTER, "gpu"])
def test_make_knows_it(name: str) -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    listed = " ".join(line for line in lines if line.startswith("BENCHMARKS")).split()
    assert (name in listed) == (name != "gpu")
    assert (FOLDER / f"{name}.py").exists()
