"""The trainer of a config, made on every worker, and what is done with it after the training."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrainer.checkpoints import Store, join
from raytrainer.tasks.needs import require_packages
from raytrainer.tasks.registrable import require_loadable

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from raytrainer.config.schema import Task
    from raytrainer.tasks.task import Prepared, TaskOf

_TASKS = {
    "text-classification": "text_classification:TextClassificationTask",
    "image-classification": "image_classification:ImageClassificationTask",
    "token-classification": "token_classification:TokenClassificationTask",
    "causal-lm": "causal_lm:CausalLMTask",
    "masked-lm": "masked_lm:MaskedLMTask",
    "seq2seq": "seq2seq:Seq2SeqTask",
}


@dataclass(frozen=True)
class Finished:
    """What a run leaves beside its checkpoints.

    Args:
        metrics: of the last evaluation and of the test, ``eval_...`` and ``test_...``.
        model: the folder of the trained model, a path or a URI.
        seconds: what each part took.
    """

    metrics: dict[str, float]
    model: str
    seconds: dict[str, float]


class TaskFactory:
    """Makes the trainer of a built-in task; called on every worker, and small when pickled.

    Args:
        config: the task's.
        folder: the run's.
        cache: where prepared examples are kept.
    """

    def __init__(self, config: Task, folder: Store, cache: Store) -> None:
        self.config, self._folder, self._cache = config, folder, cache
        self._made: tuple[TaskOf, Prepared] | None = None

    def __call__(self, arguments: TrainingArguments) -> Trainer:
        require_packages(self.config)
        from transformers import set_seed
        from transformers.utils.logging import disable_progress_bar

        from raytrainer.tasks.models import build_model
        from raytrainer.tasks.preparing import prepared_for

        disable_progress_bar()
        module, name = _TASKS[self.config.task].split(":")  # type: ignore[attr-defined]  # every task has its name
        task: TaskOf = getattr(import_module(f"raytrainer.tasks.{module}"), name)(self.config)
        prepared = prepared_for(task, self._cache, arguments)
        # A new model's weights, and a new head's, are the same on every worker and in every run of this config.
        set_seed(arguments.seed)
        tokenizer = prepared.processor if hasattr(prepared.processor, "get_vocab") else None
        model = build_model(task, task.model_settings(prepared.facts), tokenizer)
        require_loadable(model, self.config)
        self._made = task, prepared
        return task.trainer(model, arguments, prepared)

    def finish(self, trainer: Trainer) -> Finished:
        """Evaluate the trained model, test it, and save it; on every rank."""
        assert self._made is not None
        task, prepared = self._made
        clock = Clock()
        metrics = last_evaluation(trainer)
        clock.lap("evaluation")
        if "test" in prepared.splits:
            output = trainer.predict(prepared.splits["test"], metric_key_prefix="test")
            metrics |= output.metrics or {}
            # There are none where a task was told to generate nothing.
            if trainer.is_world_process_zero() and output.predictions is not None:
                lines = (json.dumps(row, ensure_ascii=False) for row in task.rows(output, prepared))
                self._folder.write("predictions.jsonl", ("\n".join(lines) + "\n").encode())
            clock.lap("test")
        model = save_model(trainer, self._folder)
        clock.lap("model")
        return Finished(metrics, model, clock.seconds)


class Clock:
    """Worker: takes the time of one part after another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        """End a part."""
        now = time.monotonic()
        self.seconds[name], self._since = now - self._since, now


def last_evaluation(trainer: Trainer) -> dict[str, float]:
    """Evaluate where there is something to evaluate on; every rank gets the same metrics."""
    has_data = trainer.eval_dataset is not None
    return dict(trainer.evaluate()) if has_data else {}


def save_model(trainer: Trainer, folder: Store) -> str:
    """Save the model, and its tokenizer, into the run's folder; every rank takes part.

    An adapter (LoRA) is saved as such in ``adapter``, and ``model`` is the model that it makes, in one piece.

    Returns:
        The model's folder, a path or a URI.
    """
    target = join(folder.shown, "model")
    # Every rank has a part in it where the model is split over them.
    with tempfile.TemporaryDirectory() as here:
        trainer.save_model(os.path.join(here, "model"))
        if trainer.is_world_process_zero():
            _merge_adapter(trainer, Path(here), folder)
            folder.put_folder(Path(here) / "model", "model")
    return target


def _merge_adapter(trainer: Trainer, here: Path, folder: Store) -> None:
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if not hasattr(model, "merge_and_unload"):
        return
    folder.put_folder(here / "model", "adapter")
    model.merge_and_unload().save_pretrained(here / "merged")
    if hasattr(trainer.processing_class, "save_pretrained"):
        trainer.processing_class.save_pretrained(here / "merged")  # type: ignore[union-attr]  # asked above
    os.rename(here / "model", here / "adapter")
    os.rename(here / "merged", here / "model")
