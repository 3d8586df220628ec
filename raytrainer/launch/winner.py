"""What the best trial of a sweep leaves: a config that trains it again, its model, and a refit on all data."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytrainer.checkpoints import Store, join
from raytrainer.config.resolved import resolved_yaml
from raytrainer.config.section import Trained
from raytrainer.config.sweep import SweepLoaded
from raytrainer.launch.config_study import trial_arguments
from raytrainer.sweep.record_files import trial_checkpoints
from raytrainer.sweep.results import Ranked

BEST = "best.yaml"
# What a checkpoint has for the training to go on; the rest is the model.
_OF_TRAINING = re.compile(r"optimizer|scheduler|scaler|rng_state|trainer_state|training_args|raytrainer_state|manifest")


def best_config(sweep: SweepLoaded, best: Ranked) -> Any:
    """Return the run config that trains the best trial again, to the same metric.

    Args:
        sweep: the sweep's config.
        best: the best trial.
    """
    config = sweep.trial_config(best.values)
    if config.scaling.num_workers is None:
        # As many as the trial had: by itself a run takes all GPUs of the cluster.
        had = {"num_workers": best.record.workers, "use_gpu": best.record.gpus > 0}
        config = config.model_copy(update={"scaling": config.scaling.model_copy(update=had)})
    repeats = best.record.arguments.get("seed")
    if not isinstance(config, Trained):
        return config
    training = dict(config.training)
    if best.record.group is not None and repeats is not None:
        training["seed"] = repeats
    training |= {key: value for key, value in trial_arguments(training, 0).items() if key.startswith("eval_")}
    if sweep.tune.scope == "best":
        metric, mode = sweep.tune.metrics[0], sweep.tune.modes[0]
        chosen = {"metric_for_best_model": metric, "greater_is_better": mode == "max"}
        training |= {"load_best_model_at_end": True, "save_strategy": "best", **chosen}
    elif training.pop("load_best_model_at_end", False) or training.get("save_strategy") == "best":
        # The last evaluation counted, so the model is the last one.
        training["save_strategy"] = "no"
    return config.model_copy(update={"name": f"{sweep.name}-best", "training": training})


def write_best(sweep: SweepLoaded, config: Any, best: Ranked, folder: Store) -> None:
    """Write best.yaml."""
    score = ", ".join(
        f"{metric} {value:.6g}" for metric, value in zip(sweep.tune.metrics, best.score.values, strict=True)
    )
    note = ""
    if best.record.changes:
        note += "# Its values changed while it trained (see its trial.json); these are the last ones.\n"
    if best.steps < best.record.max_steps:
        note += f"# It was ended there; this trains it to step {best.record.max_steps}.\n"
    head = f"# The best trial of {sweep.name}: trial {best.number}, {score} after {best.steps} steps.\n{note}"
    folder.write(BEST, (head + resolved_yaml(config, sweep.secrets)).encode())


def export_model(best: Ranked, folder: Store) -> str | None:
    """Copy the best trial's model out of its checkpoint, into the sweep's folder.

    Returns:
        Where it is; None where the trial has no checkpoint.
    """
    if best.checkpoint is None:
        return None
    with tempfile.TemporaryDirectory() as here:
        fetched = Path(here)
        trial_checkpoints(folder, best.number).fetch_folder(f"checkpoint-{best.checkpoint}", fetched)
        for file in list(fetched.rglob("*")):
            if file.is_file() and _OF_TRAINING.match(file.name):
                file.unlink()
        adapter = (fetched / "adapter_config.json").exists()
        folder.put_folder(fetched, "adapter" if adapter else "model")
    name = "adapter" if adapter else "model"
    return join(folder.shown, name)


def refit_config(config: Any, folder: Store) -> Any:
    """Return the run config that trains with the best values once more, on training and evaluation data together.

    Args:
        config: the best trial's.
        folder: the sweep's, below which the run has its own.
    """
    data, training = config.data, dict(config.training)
    cache = data.cache or join(config.run.storage_path, "cache")
    parts = [data.train] if isinstance(data.train, str) else list(data.train)
    if isinstance(data.eval, str | list):
        parts += [data.eval] if isinstance(data.eval, str) else data.eval
    for name in ("eval_strategy", "eval_steps", "load_best_model_at_end", "metric_for_best_model", "greater_is_better"):
        training.pop(name, None)
    if training.get("save_strategy") == "best":
        training["save_strategy"] = "no"
    changed: Mapping[str, Any] = {
        "name": "refit",
        "data": data.model_copy(update={"train": parts, "eval": None, "cache": cache}),
        "training": training,
        "run": config.run.model_copy(update={"storage_path": folder.path, "existing": "resume"}),
    }
    return config.model_copy(update=changed)
