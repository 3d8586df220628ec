"""A training to which something happens: python disturbed.py FOLDER [WHAT]; knows nothing of Ray.

WHAT is ``kill`` (rank 1 dies once, after step 7) or ``slow`` (a step takes a while and is printed).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class Examples(Dataset[dict[str, Any]]):
    """Numbers, and whether their sum is even."""

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = torch.randint(0, 30, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids.sum() % 2}


class Disturbance(TrainerCallback):
    """Kills, or slows down."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Happen."""
        killed = self.folder / "killed"
        if self.what == "kill" and args.process_index == 1 and state.global_step == 7 and not killed.exists():
            deadline = time.monotonic() + 120
            while not list(Path().rglob("checkpoint-6/manifest.json")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "slow" and args.process_index == 0:
            print(f"after step {state.global_step}")
            time.sleep(0.3)


def main(folder: Path, what: str) -> None:
    """Train."""
    args = TrainingArguments(
        str(folder / "out"),
        max_steps=14,
        per_device_train_batch_size=4,
        eval_strategy="steps",
        eval_steps=4,
        logging_steps=2,
        save_steps=3,
        seed=5,
        enable_jit_checkpoint=True,
    )
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    trainer = Trainer(
        BertForSequenceClassification(config),
        args,
        train_dataset=Examples(),
        eval_dataset=Examples(),
        callbacks=[Disturbance(folder, what)],
    )
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("eval", trainer.evaluate())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "nothing")
