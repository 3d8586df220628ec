"""Scripts for transformers alone, run by ``raytrainer run``: what they reach, where it goes, and how they end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file

from tests.ray.recipes import without_times
from tests.torchrun import torchrun

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
WORDS = "red green blue one two three cat dog bird sun moon star tree leaf root sea lake pond".split()  # noqa: SIM905


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Local files, with labels that are integers."""
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    for split, count in {"train": 96, "validation": 21, "test": 13}.items():
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(2, 4))) for _ in range(count)]
        rows = [{"text": text, "label": len(text.split()) - 2} for text in texts]
        (folder / f"{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        pairs = [{"document": text, "summary": text.split()[0]} for text in texts]
        (folder / f"{split}-pairs.json").write_text("".join(json.dumps(row) + "\n" for row in pairs))
        (folder / f"{split}.txt").write_text("\n".join(texts) + "\n")
    return folder


def raytrainer_run(
    *arguments: str, cwd: Path, mlflow: bool = False, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytrainer", "run", *([] if mlflow else ["--no-mlflow"]), *arguments]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


TRAINING: dict[str, Any] = {
    "do_train": True,
    "do_eval": True,
    "max_steps": 12,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "learning_rate": 5e-3,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_steps": 6,
    "seed": 3,
    "report_to": "none",
}


def options(**values: Any) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def left(folder: Path) -> dict[str, Any]:
    """Read what a script has left: metrics, history, predictions and weights, all but times."""
    found: dict[str, Any] = {}
    for file in folder.glob("*_results.json"):
        found[file.name] = without_times(json.loads(file.read_text()))
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    found["history"] = [without_times(entry) for entry in history]
    if (predictions := folder / "predictions.txt").exists():
        found["predictions"] = predictions.read_text()
    weights = load_file(folder / "model.safetensors")
    found["weights"] = {name: tensor.tobytes() for name, tensor in weights.items()}
    return found


def test_glue_equals_torchrun(tmp_path: Path, data: Path, address: str) -> None:
    """A script with arguments in a JSON file and a module beside it; with a storage, into which its output goes."""
    arguments = {
        **TRAINING,
        **{f"{split}_file": str(data / f"{split}.json") for split in ("train", "validation", "test")},
        "do_predict": True,
        "output_dir": "out/glue",
        "gradient_accumulation_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "save_steps": 4,
    }
    for name in ("torchrun", "ray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "args.json").write_text(json.dumps(arguments))
    torchrun(SCRIPTS / "run_glue.py", "args.json", cwd=tmp_path / "torchrun")
    here = tmp_path / "ray"
    storage = ["--storage-path", "../storage", "--name", "glue", "--address", address]
    done = raytrainer_run("-n2", *storage, str(SCRIPTS / "run_glue.py"), "args.json", cwd=here, mlflow=True)

    expected = left(tmp_path / "torchrun/out/glue")
    assert len(expected["history"]) > 8 and expected["predictions"].count("\n") == 13
    run = tmp_path / "storage/glue"
    assert left(here / "out/glue") == left(run / "out/glue") == expected
    # In the storage there is all that the script left, checkpoints and logs; what was written is shown once.
    assert {path.name for path in run.iterdir()} >= {"out", "logs", "run.json"}
    assert sorted(path.name for path in (run / "out/glue").glob("checkpoint-*")) == [
        f"checkpoint-{step}" for step in (12, 4, 8)
    ]
    assert not list((here / "out/glue").glob("checkpoint-*"))
    assert done.stdout.count("__main__: process 0 of 2 on cpu\n") == 1 and "process 1" not in done.stdout
    assert "***** train metrics *****" in done.stdout
    assert "process 1 of 2" in (run / "logs/rank-1.log").read_text()
    assert (run / "logs/rank-0.log").read_text() == done.stdout
    assert "takes num_items_in_batch and ignores it" in done.stderr and "--loss-scale auto" in done.stderr
    record = json.loads((run / "run.json").read_text())
    assert (record["state"], record["step"]) == ("finished", 12)
    (logged,) = MlflowClient(f"sqlite:///{here / 'mlflow.db'}").search_runs(["0"])
    assert logged.info.status == "FINISHED" and logged.data.params["learning_rate"] == "0.005"
    assert logged.data.metrics["eval_accuracy"] == expected["eval_results.json"]["eval_accuracy"]


@pytest.mark.slow
def test_summarization_equals_torchrun(tmp_path: Path, data: Path, address: str) -> None:
    """A module of a package, with relative imports and a trainer of its own."""
    files = {f"{split}_file": data / f"{split}-pairs.json" for split in ("train", "validation")}
    arguments = options(**TRAINING, **files, predict_with_generate=True, generation_max_length=12)
    torchrun("summary.train", *arguments, f"--output_dir={tmp_path / 'torchrun'}", cwd=SCRIPTS)
    raytrainer_run(
        *("-n", "2", "--address", address, "-m", "summary.train", *arguments),
        f"--output_dir={tmp_path / 'ray'}",
        cwd=SCRIPTS,
    )
    expected = left(tmp_path / "torchrun")
    assert expected["predict_results.json"] and expected["predictions"]
    assert left(tmp_path / "ray") == expected
    # Without a storage everything is where it is under torchrun.
    names = {path.name for path in (tmp_path / "torchrun").iterdir()}
    assert {path.name for path in (tmp_path / "ray").iterdir()} == names | {"run.json", "logs"}


@pytest.mark.slow
def test_language_model_equals_torchrun(tmp_path: Path, data: Path, address: str) -> None:
    files = {f"{split}_file": data / f"{split}.txt" for split in ("train", "validation")}
    arguments = [str(SCRIPTS / "run_clm.py"), *options(**TRAINING, **files, gradient_accumulation_steps=2)]
    torchrun(Path(arguments[0]), *arguments[1:], f"--output_dir={tmp_path / 'torchrun'}")
    done = raytrainer_run(
        "--num-workers=2", "--address", address, *arguments, f"--output_dir={tmp_path / 'ray'}", cwd=tmp_path
    )
    expected = left(tmp_path / "torchrun")
    assert left(tmp_path / "ray") == expected
    assert f"perplexity: {expected['eval_results.json']['perplexity']:.3f}\n" in done.stdout
    assert "rank 0 of 2\n" in done.stderr


ENDS = """
import os, sys
from pathlib import Path
import torch.distributed as dist

def fail():
    raise ValueError("no such luck")

rank = int(os.environ["RANK"])
with open(f"attempts-{rank}", "a") as file:
    file.write(sys.argv[1])
os.system("echo from a subprocess")
dist.barrier()  # a rank that leaves ends the other, which has written then
if rank == 0 and sys.argv[1] == "exception":
    fail()
if rank == 1 and sys.argv[1] == "exit":
    print("rank 1 leaves")
    sys.exit(7)
dist.barrier()
"""


def test_an_exit_status_comes_through_and_is_not_tried_again(tmp_path: Path, address: str) -> None:
    (tmp_path / "script.py").write_text(ENDS)
    storage = ("--storage-path", "runs", "--name", "ends")
    done = raytrainer_run(
        *("-n2", "--address", address, "--max-failures=1", *storage, "script.py", "exit"), cwd=tmp_path, status=7
    )
    assert (tmp_path / "attempts-0").read_text() == (tmp_path / "attempts-1").read_text() == "exit"
    assert done.stdout == "from a subprocess\n"
    assert (tmp_path / "runs/ends/logs/rank-1.log").read_text() == "from a subprocess\nrank 1 leaves\n"


def test_an_exception_is_shown_as_python_shows_it_and_tried_again(tmp_path: Path, address: str) -> None:
    (tmp_path / "script.py").write_text(ENDS)
    done = raytrainer_run(
        *("-n2", "--address", address, "--max-failures=1", "script.py", "exception"), cwd=tmp_path, status=1
    )
    assert (tmp_path / "attempts-0").read_text() == "exceptionexception"
    lines = [line.removeprefix("[rank0]: ") for line in done.stderr.splitlines()]
    begin = lines.index("Traceback (most recent call last):")
    assert lines[begin : begin + 3] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/script.py", line 15, in <module>',
        "    fail()",
    ]
    assert lines.count("ValueError: no such luck") == 2
    assert "raytrainer" not in "".join(lines[begin : lines.index("ValueError: no such luck")])


def test_more_workers_than_the_cluster_has(tmp_path: Path, address: str) -> None:
    (tmp_path / "script.py").write_text("open('started', 'w')")
    done = raytrainer_run("-n", "100", "--address", address, "script.py", cwd=tmp_path, status=2)
    assert "num_workers = 100: each worker asks for 1 CPU" in done.stderr and "raytrainer run: -n 4" in done.stderr
    assert not (tmp_path / "started").exists()


def test_how_long_workers_stay_is_checked_before_one_is_started(tmp_path: Path, address: str) -> None:
    (tmp_path / "script.py").write_text("open('started', 'w')")
    wrong = {"RAYTRAINER_KEEP_WORKERS_S": "soon"}
    done = raytrainer_run("-n", "1", "--address", address, "script.py", cwd=tmp_path, status=2, **wrong)
    assert "RAYTRAINER_KEEP_WORKERS_S = 'soon': it is no number of seconds" in done.stderr
    assert not (tmp_path / "started").exists()
