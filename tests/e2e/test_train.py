"""A config on the command line: trained, gone on with, refused, replaced; and held against the cluster before."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raytrainer.checkpoints import Store, join
from tests.e2e.test_interrupt import Program
from tests.e2e.words import command_line, environment, raytrainer, write_words
from tests.ray.s3 import S3Server

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_config_leaves_a_run(tmp_path: Path) -> None:
    write_words(tmp_path)
    settings = ["training.load_best_model_at_end=true", "fast=true", "training.dataloader_num_workers=1"]
    printed = raytrainer("train", "run.yaml", *settings, folder=tmp_path)
    run = tmp_path / "runs" / "words"
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "outcome.json", "model", "checkpoints", "trainer_state.json", "predictions.jsonl"} <= names

    # What fast chose, and why; what was asked for it left alone.
    resolved = (run / "config.yaml").read_text()
    assert resolved.startswith("# fast: training.dataloader_persistent_workers: true, because ")
    assert yaml.safe_load(resolved)["training"]["dataloader_persistent_workers"] is True
    assert yaml.safe_load(resolved)["training"]["dataloader_num_workers"] == 1

    outcome = json.loads((run / "outcome.json").read_text())
    assert outcome["steps"] == 40
    assert outcome["metrics"]["test_accuracy"] > 0.9
    assert outcome["best_checkpoint"].startswith(str(run / "checkpoints" / "checkpoint-"))
    assert outcome["precision"] in outcome["precision_reason"]
    assert outcome["samples_per_second"] > 0
    assert outcome["seconds"]["total"] > outcome["seconds"]["imports"] > 0
    assert f"test_accuracy: {outcome['metrics']['test_accuracy']:.4g}" in printed
    # From the start, and at the end.
    assert "MLflow: mlflow ui --backend-store-uri" in printed.split("step 20")[0]

    # The model's folder is all that it takes to use it.
    model = AutoModelForSequenceClassification.from_pretrained(outcome["model"])
    tokens = AutoTokenizer.from_pretrained(outcome["model"])("horse cow", return_tensors="pt")
    assert model.config.id2label[int(model(**tokens).logits.argmax())] == "animal"
    recorded = MlflowClient(outcome["mlflow"]["tracking_uri"]).get_run(outcome["mlflow"]["run_id"])
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["eval_accuracy"] == outcome["metrics"]["eval_accuracy"]

    # A second run of that name: the first one is safe.
    before = (run / "outcome.json").stat().st_mtime_ns
    refused = raytrainer("train", "run.yaml", folder=tmp_path, status=2)
    assert "there is a run of that name, finished at step 40 of 40" in refused
    assert "run.existing=replace" in refused.split("Instead: ")[1]
    assert "is finished: step 40 of 40" in raytrainer("train", "run.yaml", "run.existing=resume", folder=tmp_path)
    assert (run / "outcome.json").stat().st_mtime_ns == before

    # The config beside the run makes it again, exactly, from the examples that it finds prepared.
    again = tmp_path / "again.yaml"
    again.write_text((run / "config.yaml").read_text())
    printed = raytrainer("train", "again.yaml", "name=again", folder=tmp_path)
    assert "data: prepared by an earlier run" in printed
    histories = [json.loads((run.parent / name / "trainer_state.json").read_text()) for name in ("words", "again")]
    losses, losses_again = ([row["loss"] for row in one["log_history"] if "loss" in row] for one in histories)
    assert losses == losses_again and len(losses) == 4


@pytest.mark.slow
def test_ctrl_c_and_on(tmp_path: Path) -> None:
    write_words(tmp_path)
    endless = command_line("train", "run.yaml", "training.max_steps=1000000", "training.eval_strategy=no")
    first = Program(endless, tmp_path, environment())
    first.until("/1000000  epoch")
    first.interrupt()
    rest = first.ends_with(130)
    saved = re.search(r"saved at step (\d+)\. To go on: raytrainer resume (\S+)\n", rest)
    assert saved, rest
    assert Path(saved[2]) == tmp_path / "runs" / "words"

    # What it prints goes on.
    second = Program(command_line("resume", saved[2]), tmp_path, environment())
    second.until(f"resumed at step {saved[1]} ")
    second.until("/1000000  epoch")
    second.interrupt()
    saved = re.search(r"saved at step (\d+)\. To go on: ", second.ends_with(130))
    assert saved

    step = int(saved[1])
    changes = ["run.existing=resume", f"training.max_steps={step + 5}", "training.save_strategy=no"]
    printed = raytrainer("train", "run.yaml", *changes, folder=tmp_path)
    assert f"resumed at step {step} " in printed
    outcome = json.loads((tmp_path / "runs" / "words" / "outcome.json").read_text())
    assert outcome["steps"] == step + 5


OWN = """
from transformers import AutoModelForSequenceClassification, BertConfig, Trainer
import datasets

def build(arguments, config):
    rows = [{"input_ids": [1 + i % 7, 2, 3], "labels": i % 2} for i in range(config.data["rows"])]
    model = AutoModelForSequenceClassification.from_config(BertConfig(vocab_size=16, num_labels=2, **config.model))
    data = datasets.Dataset.from_list(rows)
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data)
"""


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {
        **{"name": "mine", "trainer": "mine:build", "model": sizes, "data": {"rows": 64}, "mlflow": None},
        "training": {"max_steps": 4, "ddp_find_unused_parameters": False},
        "scaling": {"num_workers": 2},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    raytrainer("train", "mine.yaml", folder=tmp_path)
    outcome = json.loads((tmp_path / "runs" / "mine" / "outcome.json").read_text())
    assert outcome["steps"] == 4 and outcome["mlflow"] is None
    assert "eval_loss" in outcome["metrics"]
    assert AutoModelForSequenceClassification.from_pretrained(outcome["model"]).config.hidden_size == 16
    wrong = raytrainer("train", "mine.yaml", "name=other", "trainer=mine:buidl", folder=tmp_path, status=2)
    assert "trainer = 'mine:buidl': mine has no buidl" in wrong
    assert not (tmp_path / "runs" / "other").exists()


def verdicts(printed: str) -> dict[str, str]:
    rows = re.findall(r"^(\S[\w ]*?) +│ (ok|warning|failed|not seen) ", printed, re.MULTILINE)
    return dict(rows)


def test_check(tmp_path: Path) -> None:
    write_words(tmp_path)
    printed = raytrainer("check", "run.yaml", "--timed", folder=tmp_path)
    seen = verdicts(printed)
    first = ["config", "training arguments", "cluster", "storage", "MLflow", "data", "model", "precision", "memory"]
    assert list(seen) == [*first, "batch", "steps", "evaluation", "checkpoints", "time"]
    assert set(seen.values()) == {"ok"}
    flat = " ".join(re.sub(r"\s*│\s*", " ", printed).split())
    assert "400 training and 51 evaluation examples" in flat
    assert "32 examples an optimizer step = 16 a worker x 2 workers x 1 accumulated" in flat
    assert "40 optimizer steps" in flat and "2 time(s)" in flat
    # What stays is the data, for the run.
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]
    assert not (tmp_path / "mlflow.db").exists()


def test_check_finds_what_would_fail(tmp_path: Path) -> None:
    write_words(tmp_path)
    wrong = ["scaling.num_workers=64", "mlflow.tracking_uri=http://127.0.0.1:9", "data.train=trian.jsonl"]
    printed = raytrainer("check", "run.yaml", *wrong, folder=tmp_path, status=2)
    seen = verdicts(printed)
    assert seen["cluster and data files"] == seen["MLflow"] == "failed"
    assert seen["storage"] == "ok" and seen["data"] == seen["time" if "time" in seen else "steps"] == "not seen"
    assert "trian.jsonl" in printed and "64" in printed
    assert not (tmp_path / "runs").exists()
    # On the workers.
    printed = raytrainer("check", "run.yaml", "data.label=lable", folder=tmp_path, status=2)
    assert verdicts(printed)["data and model"] == "failed"
    assert "write 'label'" in " ".join(re.sub(r"\s*│\s*", " ", printed).split())
    # train begins with the same.
    refused = raytrainer("train", "run.yaml", "scaling.num_workers=64", folder=tmp_path, status=2)
    assert "room for 4 worker(s)" in refused


SCRIPT = """
import sys
from transformers import TrainingArguments
import mine

arguments = TrainingArguments("out", max_steps=int(sys.argv[1]), save_steps=4, report_to="none", disable_tqdm=True)
trainer = mine.build(arguments, mine.Config)
trainer.train()
trainer.save_model()
print("workers:", arguments.world_size)
sys.exit(int(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_script_by_a_config(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    (tmp_path / "mine.py").write_text(OWN + f"class Config:\n    data, model = {{'rows': 64}}, {sizes}\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    config = {"name": "scripted", "script": "script.py", "args": ["8", "0"], "scaling": {"num_workers": 2}}
    (tmp_path / "script.yaml").write_text(yaml.safe_dump(config))
    assert "workers: 2" in raytrainer("train", "script.yaml", folder=tmp_path)
    run = tmp_path / "runs" / "scripted"
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    assert (run / "out" / "checkpoint-8" / "manifest.json").exists()
    AutoModelForSequenceClassification.from_pretrained(run / "out")
    assert "there is a run of that name" in raytrainer("train", "script.yaml", folder=tmp_path, status=2)
    # The exit status is the script's.
    raytrainer("train", "script.yaml", "run.existing=replace", "args=['2', '7']", folder=tmp_path, status=7)
    refused = raytrainer("check", "script.yaml", folder=tmp_path, status=2)
    assert "script = 'script.py'" in refused
    refused = raytrainer("train", "script.yaml", "scaling.num_workers=[1, 2]", folder=tmp_path, status=2)
    assert "known to the script alone" in refused


@pytest.mark.slow
def test_a_run_in_an_object_store(tmp_path: Path) -> None:
    write_words(tmp_path, mlflow=None)
    with S3Server() as server:
        uri = server.bucket("configs")
        checked = verdicts(raytrainer("check", "run.yaml", f"run.storage_path={uri}", folder=tmp_path))
        assert checked["storage"] == "ok"
        raytrainer("train", "run.yaml", f"run.storage_path={uri}", folder=tmp_path)
        store = Store(join(uri, "words"))
        outcome = json.loads(store.read("outcome.json"))
        assert outcome["metrics"]["test_accuracy"] > 0.9
        assert len(store.read("predictions.jsonl").splitlines()) == 31
        store.fetch_folder("model", tmp_path / "model")
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
        assert Store(join(uri, "words", "checkpoints")).steps() == [20, 40]
        # Found by the check's workers, and by this run's.
        again = raytrainer("train", "run.yaml", f"run.storage_path={uri}", "run.existing=replace", folder=tmp_path)
        assert "data: prepared by an earlier run" in again
        # Nothing of it is on this machine's side.
        here = ["eval.jsonl", "model", "run.yaml", "test.jsonl", "train.jsonl"]
        assert sorted(path.name for path in tmp_path.iterdir()) == here
