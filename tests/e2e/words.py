"""A config that trains in a second, and the command line as users call it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray
import yaml

ROOT = Path(__file__).parents[2]
_WORDS = {
    "animal": ["cat", "dog", "horse", "cow", "bird"],
    "tool": ["saw", "hammer", "drill", "axe", "file"],
    "food": ["bread", "rice", "cheese", "soup", "egg"],
}


def write_words(folder: Path, **changes: Any) -> Path:
    """Write texts of words of one kind, and a config that tells the kinds apart; changes are sections of it."""
    rng = random.Random(0)
    for split, rows in (("train", 400), ("eval", 51), ("test", 31)):
        lines = []
        for _ in range(rows):
            kind = rng.choice(list(_WORDS))
            text = " ".join(rng.choice(_WORDS[kind]) for _ in range(rng.randint(1, 5)))
            lines.append(json.dumps({"text": text, "label": kind}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {
        "name": "words",
        "task": "text-classification",
        "model": {"from_config": {"model_type": "bert", **sizes}, "tokenizer": "words"},
        "data": {"train": "train.jsonl", "eval": "eval.jsonl", "test": "test.jsonl"},
        "training": {
            **{"max_steps": 40, "per_device_train_batch_size": 16, "learning_rate": 0.01, "logging_steps": 10},
            **{"eval_strategy": "steps", "eval_steps": 20, "save_steps": 20, "ddp_find_unused_parameters": False},
        },
        "scaling": {"num_workers": 2},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**config, **changes}, sort_keys=False))
    return path


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raytrainer", *arguments]


def environment() -> dict[str, str]:
    """Return what the command line finds the session's cluster by."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def raytrainer(*arguments: str, folder: Path, status: int = 0) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(
        command_line(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
