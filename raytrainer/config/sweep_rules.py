"""Rules about a sweep's settings that are right by themselves and wrong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raytrainer.config.schema import TASKS, kind_of
from raytrainer.config.setting import seconds
from raytrainer.config.sweep_file import SCHEDULERS, SEARCHES, named
from raytrainer.config.tree import Path
from raytrainer.config.view import Finding, Rule, View
from raytrainer.config.wording import nearest


def name_of(section: str, names: Sequence[str]) -> Rule:
    """Make the rule that a search or a scheduler is one that there is."""

    def rule(view: View) -> Iterator[Finding]:
        said = view("tune", section)
        if isinstance(said, dict) and len(said) != 1:
            reason = "it is empty" if not said else f"it names {len(said)}, {' and '.join(said)}"
            yield ("tune", section), reason, f"one name with its options: {{{names[2]}: {{}}}}"
        elif said is not None and named(said)[0] not in names:
            name = named(said)[0]
            at = ("tune", section, name) if isinstance(said, dict) else ("tune", section)
            near = nearest(name, names)
            choices = ", ".join(names)
            fix = f"{near}; the choices are {choices}" if near else f"one of {choices}"
            yield at, f"there is no {section} {name}", fix

    return rule


def chosen(view: View, section: str, default: str) -> str:
    """Return the name of the search or the scheduler."""
    said = view("tune", section, default=default)
    return named(said)[0] if said else default


def objectives(view: View) -> Iterator[Finding]:
    """Each metric has a mode; several are for those who can handle them."""
    metric, mode = view("tune", "metric"), view("tune", "mode")
    metrics = metric if isinstance(metric, list) else [metric]
    modes = mode if isinstance(mode, list) else [mode]
    if len(set(metrics)) < len(metrics):
        yield ("tune", "metric"), "a metric is in it twice", "each metric once"
    if len(metrics) != len(modes):
        yield ("tune", "mode"), f"there are {len(metrics)} metrics and {len(modes)} modes", "min or max for each metric"
    if len(metrics) == 1:
        return
    scheduler, search = chosen(view, "scheduler", "fifo"), chosen(view, "search", "random")
    if scheduler in SCHEDULERS and scheduler != "fifo":
        reason = f"tune.metric has {len(metrics)} objectives, and {scheduler} stops trials by one"
        yield ("tune", "scheduler"), reason, "fifo, or one metric"
    if search in SEARCHES and search not in ("random", "grid", "optuna"):
        reason = f"tune.metric has {len(metrics)} objectives, and {search} searches for one"
        yield ("tune", "search"), reason, "optuna, random or grid; or one metric"


def repeated(view: View) -> Iterator[Finding]:
    """A mean is of trials that ran to their end."""
    scheduler = chosen(view, "scheduler", "fifo")
    if (view("tune", "repeats") or 1) > 1 and scheduler in SCHEDULERS and scheduler != "fifo":
        reason = f"{scheduler} stops trials early, and one that was stopped has no figure for the mean"
        yield ("tune", "repeats"), reason, "1, or scheduler: fifo"


def duration(view: View) -> Iterator[Finding]:
    """A budget is above nothing."""
    time = view("tune", "budget", "time")
    if time is not None and seconds(time) == 0:
        yield ("tune", "budget", "time"), "no trial would start", "30m, 2h, 1h30m or 90s, for example"


def evaluated(view: View) -> Iterator[Finding]:
    """A task that is to be evaluated has data for it; who stops trials early sees evaluations on the way."""
    metric = view("tune", "metric")
    metrics = metric if isinstance(metric, list) else [metric]
    asked = [name for name in metrics if isinstance(name, str) and name.startswith("eval_")]
    kind = kind_of({name: view(name) for name in ("task", "trainer", "script") if view.has(name)})
    if kind in TASKS and asked and not view.has("data", "eval"):
        fix = "data.eval: files, or a share of the training data such as 0.1"
        yield ("data", "eval"), f"trials are compared by {asked[0]}, and there is no data to evaluate on", fix
    scheduler = chosen(view, "scheduler", "fifo")
    if kind == "script" or scheduler not in SCHEDULERS or scheduler == "fifo":
        return
    if view("training", "eval_strategy") == "no" and not view.has("search_space", "training.eval_strategy"):
        reason = f"{scheduler} stops trials by their evaluations, and there are none before the end"
        yield ("training", "eval_strategy"), reason, "steps or epoch; or scheduler: fifo"


_OF_TEXTS = {name: name for name in ("exact_match", "chrf", "bleu", "wer", "cer")}
_OF_TEXTS |= {name: "rouge" for name in ("rouge1", "rouge2", "rougeL")}


def generated(view: View) -> Iterator[Finding]:
    """What generated texts are measured by needs generated texts, and is measured."""
    if view("task") != "seq2seq":
        return
    metric = view("tune", "metric")
    for number, name in enumerate(metric if isinstance(metric, list) else [metric]):
        at: Path = ("tune", "metric", number) if isinstance(metric, list) else ("tune", "metric")
        measured = _OF_TEXTS.get(str(name).removeprefix("eval_"))
        if measured is None:
            continue
        if not view("training", "predict_with_generate"):
            yield at, "nothing is generated that it could measure", "training.predict_with_generate: true in the base"
        elif measured not in view("metrics", default=["exact_match", "chrf"]):
            yield at, f"metrics of the base does not have {measured}", f"metrics: [{measured}] in the base"


def measured(view: View) -> Iterator[Finding]:
    """What a node measures is of all trials that it has at that time."""
    if view("mlflow", "system_metrics"):
        reason = "a node may have several trials at a time, so what it measures is no trial's"
        yield ("mlflow", "system_metrics"), reason, "false in the sweep; a run of its own has them"


def put_in_one_piece(view: View) -> Iterator[Finding]:
    """The best trial's model is what its checkpoint has; a refit's adapter is merged when it ends."""
    adapts = view.has("model", "peft") or any(key.startswith("model.peft.") for key in view("search_space", default={}))
    if not adapts or view("tune", "refit"):
        return
    for name in ("register", "log_model"):
        if view("mlflow", name):
            fix = "tune.refit: true, whose model is in one piece; or the config without it"
            yield ("mlflow", name), "of the best trial there is an adapter, which MLflow could not load by itself", fix


RULES: list[Rule] = [
    *(name_of("search", SEARCHES), name_of("scheduler", SCHEDULERS)),
    *(objectives, repeated, duration, evaluated, generated, measured, put_in_one_piece),
]
