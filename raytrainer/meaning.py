"""What a run trains, on what, in which order: noted in its checkpoints, and compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.events import ReadData
from raytrainer.plain import plain

if TYPE_CHECKING:
    from transformers import Trainer

# Of the training arguments, those that decide which example comes when. Any other one may change, and is told.
_ORDER = ("seed", "data_seed", "train_sampling_strategy", "dataloader_drop_last")
# Of the others, those that transformers takes from the checkpoint's optimizer and from its state.
_RESTORED = {
    **dict.fromkeys(
        ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"), "the optimizer goes"
    ),
    **dict.fromkeys(("logging_steps", "eval_steps", "save_steps"), "transformers goes"),
}
_ROWS = (0, 0.5, 1)
# They differ between two runs without meaning anything, or follow from the number of workers.
_IRRELEVANT = {
    "output_dir",
    "run_name",
    "logging_dir",
    "use_cpu",
    "disable_tqdm",
    "report_to",
    "resume_from_checkpoint",
}
_IRRELEVANT |= {"per_device_train_batch_size", "gradient_accumulation_steps", "local_rank", "save_only_model"}


def meaning_of(trainer: Trainer) -> dict[str, Any]:
    """Describe a trainer's model, data and order in JSON types.

    Args:
        trainer: as it is on a worker, before it trains.

    Returns:
        ``model``, ``data``, ``order`` and ``arguments``; equal where a resumed run is the same run.
    """
    args = trainer.args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {
        "model": _model(trainer.model),
        "data": _data(trainer.train_dataset),
        "order": {"global batch": batch, **{name: plain(getattr(args, name)) for name in _ORDER}},
        "arguments": {name: value for name, value in plain(args.to_dict()).items() if name not in _IRRELEVANT},
    }


def data_read(trainer: Trainer) -> list[ReadData]:
    """Describe what a trainer trains and evaluates on; several evaluation datasets are one each."""
    evaluation: Any = trainer.eval_dataset
    several = evaluation if isinstance(evaluation, dict) else {"": evaluation}
    named = [("training", "", trainer.train_dataset), *(("evaluation", key, each) for key, each in several.items())]
    found = []
    for context, key, dataset in named:
        if dataset is None:
            continue
        described = _data(dataset)
        info = getattr(dataset, "info", None)
        name = key or getattr(info, "dataset_name", None) or context
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
        found.append(ReadData(context, name, digest, described.get("examples"), described["class"]))
    return found


def compare(before: dict[str, Any], now: dict[str, Any], allow_changes: bool, adopt: bool = False) -> list[str]:
    """Compare a checkpoint's meaning with the present trainer's.

    Args:
        before: of the checkpoint.
        now: of the trainer that resumes.
        allow_changes: whether other model, data or order are what the user wants.
        adopt: whether other arguments are what the user wants, order included, and have effect.

    Returns:
        Lines on what is different, for the user.

    Raises:
        ArgumentsError: model, data or order differ and that is not allowed.
    """
    problems, lines = [], []
    for part in ("model", "data", "order"):
        for name in sorted({*before.get(part, {}), *now[part]}):
            old, new = before.get(part, {}).get(name), now[part].get(name)
            if old != new:
                lines.append(f"{part}, {name}: {old!r} before, {new!r} now")
                if not (adopt and part == "order"):
                    problems.append(Problem(f"{part}, {name}", new, f"the checkpoint was trained with {old!r}", _FIX))
    if problems and not allow_changes:
        raise ArgumentsError(*problems)
    old, new = before.get("arguments", {}), now["arguments"]
    for name in sorted({*old, *new} - set(_ORDER)):
        if old.get(name) != new.get(name):
            restored = f" (without effect: {_RESTORED[name]} on from the checkpoint)" if name in _RESTORED else ""
            lines.append(f"{name}: {old.get(name)!r} before, {new.get(name)!r} now{'' if adopt else restored}")
    return lines


_FIX = "what the run began with; or allow_changes=True (--allow-changes) where this is what you want"


def _model(model: Any) -> dict[str, Any]:
    shapes = {name: [*tensor.shape] for name, tensor in model.state_dict().items() if hasattr(tensor, "shape")}
    text = json.dumps(shapes, sort_keys=True)
    return {"class": type(model).__name__, "parameters": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _data(dataset: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"class": type(dataset).__name__}
    try:
        described["examples"] = len(dataset)
    except TypeError:
        return described
    table = getattr(dataset, "data", None)
    if hasattr(table, "column_names") and len(dataset):
        # Rows as they are stored: a transform may be random, and would draw from the training's random numbers.
        stored = dataset.with_format("arrow")
        rows = [stored[int(share * (len(dataset) - 1))].to_pylist() for share in _ROWS]
        described["columns"] = sorted(dataset.column_names)
        described["rows"] = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    return described
