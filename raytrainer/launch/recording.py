"""What a config run tells MLflow beside its metrics."""

from __future__ import annotations

import os
from typing import Any

import yaml

from raytrainer.checkpoints import Store
from raytrainer.config.data import Data
from raytrainer.config.section import Trained
from raytrainer.plain import only_numbers
from raytrainer.tracking import Tracker
from raytrainer.tracking_entry import Entry
from raytrainer.tracking_journal import read_journals

# Characters of a name that a reader takes in; MLflow takes 500.
_NAME = 100


def describe(tracker: Tracker, config: Trained, resolved: str) -> None:
    """Have a config written to its MLflow run: as parameters, and whole.

    Args:
        tracker: of the run.
        config: the config.
        resolved: the same in full as YAML, without secrets.
    """
    # Not from the config itself: in that the variables have their values, secret ones too.
    settings: dict[str, Any] = yaml.safe_load(resolved)
    tracker.put_settings(settings)
    tracker.add(Entry(texts={"config.yaml": resolved}))
    if isinstance(getattr(config, "data", None), Data):
        data = settings["data"]
        # Where the evaluation's examples are held out of the training's, they come from there.
        evaluation = data["eval"] if isinstance(data["eval"], str | list) else data["train"]
        sources = {"training": data["train"], "evaluation": evaluation}
        tracker.sources |= {context: _named(place, data["hub"]) for context, place in sources.items()}


def is_of(folder: Store, resolved: str) -> bool:
    """Tell whether the last MLflow run of a folder has this config: then it is gone on with after a start that failed.

    A parameter of a run cannot be changed, so with another config it would show the old one.

    Args:
        folder: the run's.
        resolved: the config, as :func:`describe` got it.
    """
    entries = [entry for journal in read_journals(folder)[-1:] for entry in journal.read()]
    said = [entry.texts["config.yaml"] for entry in entries if "config.yaml" in entry.texts]
    return said[-1:] == [resolved]


def score(config: Trained, metrics: dict[str, Any]) -> tuple[str, float] | None:
    """Return what a model is known by: ``metric_for_best_model``, else the evaluation's loss; None without either."""
    asked = str(config.training.get("metric_for_best_model") or "loss")
    numbers = only_numbers(metrics)
    for name in (asked, f"eval_{asked}"):
        if name in numbers:
            return name, float(numbers[name])
    return None


def _named(place: str | list[str], hub: str | None) -> tuple[str, str]:
    places = [place] if isinstance(place, str) else place
    if hub is not None:
        return hub, f"hub: {hub}, {', '.join(places)}"
    names = [os.path.basename(each.partition("?")[0].rstrip("/")) for each in places]
    name = ", ".join(names)
    return name if len(name) <= _NAME else f"{names[0]} +{len(names) - 1}", ", ".join(places)
