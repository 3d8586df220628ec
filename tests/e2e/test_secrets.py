"""A secret in every place where one can be given: it serves, and is found nowhere afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml

from tests.e2e.words import command_line, environment, raytrainer
from tests.unit.test_tracking import Server, serving

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
MARK = "s3cr3t"
ENVIRONMENT = {
    **{f"MLFLOW_TRACKING_{name}": f"{MARK}-{name}" for name in ("PASSWORD", "TOKEN")},
    **{name: f"{MARK}-{name}" for name in ("AWS_SECRET_ACCESS_KEY", "GIVEN_SECRET", "OTHER_SECRET", "HF_TOKEN")},
    "MLFLOW_TRACKING_USERNAME": "anna",
    "MLFLOW_TAGS": f'{{"api_key": "{MARK}-tag", "where": "http://anna:{MARK}-tag@host/"}}',
}
# The worker has what the run names and what is MLflow's, and nothing else.
OWN = f"""
from os import environ
from tests.ray.recipes import classify_words
from transformers import Trainer
def build(arguments):
    given = {{name: value for name, value in environ.items() if "{MARK}" in value}}
    assert {{"GIVEN_SECRET", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN"}} <= given.keys(), sorted(given)
    assert not given.keys() & {{"OTHER_SECRET", "AWS_SECRET_ACCESS_KEY"}}, sorted(given)
    assert given["HF_TOKEN"] == "{MARK}-hub" and arguments.hub_token is None
    return Trainer(args=arguments, **classify_words())
"""
SCRIPT = """
from tests.ray.recipes import classify_words
from transformers import HfArgumentParser, Trainer, TrainingArguments
arguments, rest = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(return_remaining_strings=True)
trainer = Trainer(args=arguments, **classify_words())
trainer.train()
trainer.save_model()
"""
PROGRAM = f"""
from ray.train import ScalingConfig
from raytrainer import RayTrainer, RayTrainingArguments
from tests.ray.recipes import classify_words
if __name__ == "__main__":
    arguments = RayTrainingArguments("out", hub_token="{MARK}-hub", report_to="mlflow", max_steps=2, save_steps=2)
    RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=1), **classify_words()).train()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


def with_mark(*folders: Path) -> set[str]:
    """Return the files with the mark, and the places in it where it stands."""
    found = set()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and (at := (text := path.read_bytes()).find(MARK.encode())) >= 0:
                found.add(f"{path}: {text[max(0, at - 80) : at + 40]!r}")
    return found


def logs() -> Path:
    return Path(ray._private.worker._global_node.get_session_dir_path())  # type: ignore[attr-defined]  # Ray's own


def run(command: list[str], folder: Path, server: Server, status: int = 0) -> str:
    uri = server.uri.replace("://", f"://anna:{MARK}-uri@")
    given = {**environment(), **ENVIRONMENT, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert MARK not in said, said
    return said


def write_config(folder: Path, server: Server) -> list[str]:
    """Write a config with secrets in it, and return settings for the command line with the same ones."""
    uri = server.uri.replace("://", f"://anna:{MARK}-uri@")
    tags = {"hub_token": f"{MARK}-tag", "where": f"postgresql://anna:{MARK}-tag@host/db"}
    config = {
        "name": "own",
        "trainer": "own:build",
        "training": {"max_steps": 2, "save_steps": 2, "hub_token": f"{MARK}-hub"},
        "run": {"env": ["GIVEN_SECRET"], "storage_path": "runs"},
        "mlflow": {"tracking_uri": uri, "tags": tags, "register": "secrets"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    (folder / "own.py").write_text(OWN)
    return [f"training.hub_token={MARK}-hub", f"mlflow.tracking_uri={uri}"]


def test_a_config(tmp_path: Path, server: Server) -> None:
    settings = write_config(tmp_path, server)
    run(command_line("train", "run.yaml", *settings), tmp_path, server)
    assert with_mark(tmp_path / "runs", server.folder, logs() / "logs") == set()
    assert "${HUB_TOKEN}" in (tmp_path / "runs/own/config.yaml").read_text()

    # What is wrong is told without it, and a run whose command had it says what is missing.
    said = run(command_line("train", "run.yaml", f"training.hub_token=[{MARK}-hub]"), tmp_path, server, status=2)
    assert "training.hub_token" in said
    record = tmp_path / "runs/own/run.json"
    record.write_text(record.read_text().replace('"finished"', '"interrupted"'))
    assert "its command had a secret in it" in run(command_line("resume", "runs/own"), tmp_path, server, status=2)


@pytest.mark.slow
def test_a_sweep(tmp_path: Path, server: Server) -> None:
    settings = write_config(tmp_path, server)
    sweep = {
        "base": "run.yaml",
        "name": "sweep",
        "training": {"max_steps": 2, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 2},
        "search_space": {"training.learning_rate": {"uniform": [0.1, 0.2]}},
        "tune": {"metric": "eval_loss", "mode": "min", "num_samples": 2},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    run(command_line("tune", "sweep.yaml", *settings), tmp_path, server)
    assert with_mark(tmp_path / "runs", server.folder, logs() / "logs") == set()
    assert "${HUB_TOKEN}" in (tmp_path / "runs/sweep/config.yaml").read_text()


@pytest.mark.slow
def test_a_script_and_a_program(tmp_path: Path, server: Server) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    flags = ["--output_dir", "out/script", "--max_steps", "2", "--save_steps", "2", "--hub_token", f"{MARK}-hub"]
    storage = ["--storage-path", "runs", "--name", "script", "--env", "GIVEN_SECRET"]
    run(command_line("run", *storage, "script.py", *flags, "--api_key", f"{MARK}-key"), tmp_path, server)
    (tmp_path / "program.py").write_text(PROGRAM)
    run([sys.executable, "program.py"], tmp_path, server)
    assert with_mark(tmp_path / "runs", tmp_path / "out", server.folder, logs() / "logs") == set()


@pytest.mark.parametrize("key", [f"anna:{MARK}-key", f"{MARK}-key"])
def test_a_key_in_the_storages_address_is_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"name": "own", "trainer": "own:build", "mlflow": None}))
    said = raytrainer("train", "run.yaml", f"run.storage_path=s3://{key}@bucket/runs", folder=tmp_path, status=2)
    assert "storage_path = 's3://***@bucket/runs'" in said and "AWS_SECRET_ACCESS_KEY" in said
    assert MARK not in said
