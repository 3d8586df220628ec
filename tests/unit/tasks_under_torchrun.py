"""A task's factory on the processes of torchrun: ``tasks_under_torchrun.py CONFIG FOLDER ARGUMENTS``, the last JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG
from raytrainer.tasks.factory import TaskFactory


def main(config: Path, folder: Path, given: str) -> None:
    """Train, finish, and leave the metrics and the log where a test finds them."""
    values = yaml.safe_load(config.read_text())
    kind = Seq2SeqTrainingArguments if values["task"] == "seq2seq" else TrainingArguments
    factory = TaskFactory(CONFIG.validate_python(values), Store(str(folder / "run")), Store(str(folder / "cache")))
    trainer = factory(
        kind(str(folder / "out"), use_cpu=True, report_to="none", save_strategy="no", **json.loads(given))
    )
    trainer.train()
    finished = factory.finish(trainer)
    if trainer.is_world_process_zero():
        found = {"world": trainer.args.world_size, "metrics": finished.metrics, "log": trainer.state.log_history}
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
