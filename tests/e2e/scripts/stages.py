"""Two trainings in one script, the second one with the first one's model: python stages.py FOLDER [kill].

With ``kill`` rank 1 dies once, in the second training.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


class Kill(TrainerCallback):
    """Kills rank 1 in the middle of a training, the first time."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5 and args.process_index == 1 and not self.mark.exists():
            deadline = time.monotonic() + 120
            while not list(Path().rglob("two/checkpoint-4/manifest.json")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, kill: bool) -> None:
    """Train on one half of the examples, then on the other."""
    set_seed(1)
    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = BertForSequenceClassification(config)
    for stage, (first, last) in {"one": (0, 40), "two": (40, 80)}.items():
        rows = [{"input_ids": [1 + i % 29, 1 + i * 7 % 31, 3], "labels": i % 2} for i in range(first, last)]
        data = Dataset.from_list(rows)
        arguments = TrainingArguments(
            output_dir=str(folder / stage),
            max_steps=8,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            logging_steps=2,
            save_steps=4,
            report_to="none",
        )
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
        if kill and stage == "two":
            trainer.add_callback(Kill(folder / "killed"))
        trainer.train()
        trainer.save_metrics("eval", trainer.evaluate())
        trainer.save_model()
        trainer.save_state()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "kill" in sys.argv[2:])
