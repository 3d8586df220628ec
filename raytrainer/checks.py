"""What can be known to be wrong on the driver, before any worker starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ray.train.v2.api.config import RunConfig, ScalingConfig
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint, has_length

from raytrainer.errors import ArgumentsError, Problem, unknown_name
from raytrainer.precision import conflicting_precision

_LOSS_SCALES = ("auto", "transformers")


def bind(kind: type[Trainer], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Give each argument of a constructor call its name, through constructors that pass ``*args, **kwargs`` on.

    Args:
        kind: the trainer's class.
        args: positional arguments.
        kwargs: keyword arguments.

    Returns:
        Name to value of what was passed.

    Raises:
        ArgumentsError: an argument that no constructor of the class takes, or one too many.
    """
    positional: list[str] = []
    known: list[str] = []
    open_ended = True
    for parameters in _constructors(kind):
        by_kind = {p.name: p.kind for p in parameters}
        known += [name for name, k in by_kind.items() if k in _NAMED]
        if not positional:
            positional = [name for name, k in by_kind.items() if k in _POSITIONAL]
        if inspect.Parameter.VAR_KEYWORD not in by_kind.values():
            open_ended = False
            break
    if len(args) > len(positional):
        raise ArgumentsError(
            Problem(
                f"{kind.__name__}(...)",
                f"{len(args)} positional arguments",
                f"it takes at most {len(positional)}: {', '.join(positional)}",
                "pass the rest by name",
            )
        )
    for name in kwargs:
        if not open_ended and name not in known:
            raise ArgumentsError(
                Problem(name, kwargs[name], f"{kind.__name__} takes no such argument", unknown_name(name, known))
            )
    return {**dict(zip(positional, args, strict=False)), **kwargs}


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _constructors(kind: type) -> Iterator[list[inspect.Parameter]]:
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            yield list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]


def arguments(kind: type[Trainer], bound: dict[str, Any]) -> TrainingArguments | None:
    """Find the training arguments among what the constructor was given, under whatever name.

    Args:
        kind: the trainer's class.
        bound: argument name to value.

    Returns:
        The arguments; None where there are none and transformers would make them.

    Raises:
        ArgumentsError: they are not of the class that the trainer needs, or are not there.
    """
    needed = Seq2SeqTrainingArguments if issubclass(kind, Seq2SeqTrainer) else TrainingArguments
    given = bound.get("args")
    if given is None:
        given = next((value for value in bound.values() if isinstance(value, TrainingArguments)), None)
    if isinstance(given, needed):
        return given
    name = f"Ray{needed.__name__}"
    if given is not None:
        fix = f"args={name}(**...)" if isinstance(given, dict) else f"args={name}(output_dir=...)"
        _refuse("args", given, f"{kind.__name__} needs {needed.__name__}, this is {type(given).__name__}", fix)
    if needed is not TrainingArguments or constructor_of_its_own(kind):
        _refuse("args", None, f"{kind.__name__} needs {needed.__name__}", f"args={name}(output_dir=...)")
    return None


def constructor_of_its_own(kind: type[Trainer]) -> bool:
    """Tell whether the class has a constructor that may make what transformers' is otherwise given."""
    transparent = {Trainer, Seq2SeqTrainer}
    own = (base for base in kind.__mro__[: kind.__mro__.index(Trainer)] if "__init__" in vars(base))
    return any(base not in transparent and not base.__module__.startswith("raytrainer.") for base in own)


def own(scaling: object, run: object, precision: str | None, loss_scale: str, given: TrainingArguments) -> None:
    """Check RayTrainer's own arguments.

    Raises:
        ArgumentsError: one is wrong, or contradicts the training arguments.
    """
    problems: list[Problem] = []
    if scaling is not None and not isinstance(scaling, ScalingConfig):
        workers = scaling if isinstance(scaling, int) else 2
        problems.append(
            Problem(
                "scaling_config",
                scaling,
                f"it is a {_kind_of(scaling)}, not a ray.train.ScalingConfig",
                f"scaling_config=ScalingConfig(num_workers={workers}), from ray.train",
            )
        )
    elif scaling is not None:
        problems += _scaling(scaling, given)
    if run is not None and not isinstance(run, RunConfig):
        problems.append(
            Problem(
                "run_config",
                run,
                f"it is a {_kind_of(run)}, not a ray.train.RunConfig",
                "run_config=RunConfig(name=..., storage_path=...), from ray.train",
            )
        )
    if loss_scale not in _LOSS_SCALES:
        problems.append(
            Problem("loss_scale", loss_scale, "there is no such way", unknown_name(str(loss_scale), _LOSS_SCALES))
        )
    problems += conflicting_precision(precision, vars(given))
    if problems:
        raise ArgumentsError(*problems)


def _scaling(scaling: ScalingConfig, given: TrainingArguments) -> list[Problem]:
    problems = []
    if isinstance(scaling.num_workers, tuple):
        problems.append(
            Problem(
                "scaling_config.num_workers",
                scaling.num_workers,
                "a number of workers that changes would change the global batch size in the middle of a training",
                f"ScalingConfig(num_workers={scaling.max_workers})",
            )
        )
    elif scaling.num_workers == 0:
        problems.append(
            Problem(
                "scaling_config.num_workers",
                0,
                "there is nobody to train",
                "ScalingConfig(num_workers=1), or transformers' own Trainer for this process",
            )
        )
    if given.use_cpu and (scaling.use_gpu or scaling.use_tpu):
        problems.append(
            Problem(
                "args.use_cpu",
                True,
                "scaling_config asks for an accelerator for every worker",
                "leave use_cpu out, or ScalingConfig(use_gpu=False)",
            )
        )
    return problems


def constructor(kind: type[Trainer], bound: dict[str, Any], given: TrainingArguments) -> None:
    """Check what the constructor was given; all that is wrong is told at once.

    Args:
        kind: the trainer's class.
        bound: argument name to value.
        given: the training arguments.

    Raises:
        ArgumentsError: with every problem found.
    """
    problems = [*_model(bound), *_data(bound, given), *_callables(bound, given), *_optimizers(bound), *_given(given)]
    if not constructor_of_its_own(kind):
        problems += _missing(bound, given)
    if problems:
        raise ArgumentsError(*problems)


def _model(bound: dict[str, Any]) -> Iterator[Problem]:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    model, model_init = bound.get("model"), bound.get("model_init")
    if model is not None and model_init is not None:
        yield Problem(
            "model_init",
            model_init,
            "a model was passed as well",
            "pass model, or model_init for a new model at each train()",
        )
    if model_init is not None and not callable(model_init):
        yield Problem("model_init", model_init, "it cannot be called", "model_init=function that returns a model")
    elif model_init is not None and len(inspect.signature(model_init).parameters) > 1:
        yield Problem(
            "model_init", model_init, "it takes more than one argument", "a function of none, or of the trial"
        )
    if type(model).__name__ in MODEL_MAPPING_NAMES.values() and hasattr(model, "config"):
        yield Problem(
            "model",
            type(model).__name__,
            "it computes hidden states and no loss",
            "a model with a head, for example AutoModelForSequenceClassification.from_pretrained(...)",
        )


def _data(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    train, evaluation = bound.get("train_dataset"), bound.get("eval_dataset")
    if isinstance(train, str | dict):
        keys = f" with {', '.join(map(repr, train))}" if isinstance(train, dict) else ""
        yield Problem(
            "train_dataset", type(train).__name__, f"it is no dataset{keys}", "train_dataset=datasets['train']"
        )
    elif train is not None and not has_length(train) and given.max_steps <= 0:
        yield Problem(
            "args.max_steps",
            given.max_steps,
            "train_dataset has no length, so the number of steps is not known",
            "max_steps=1000 (or what you want) in the training arguments",
        )
    elif train is not None and has_length(train) and len(train) == 0:
        yield Problem("train_dataset", "0 examples", "there is nothing to train on", "a dataset with examples in it")
    if isinstance(evaluation, str):
        yield Problem("eval_dataset", evaluation, "it is a text, no dataset", "eval_dataset=datasets['validation']")


def _missing(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    if bound.get("model") is None and bound.get("model_init") is None:
        yield Problem("model", None, "there is nothing to train", "model=AutoModelFor...from_pretrained(...)")
    if given.eval_strategy != "no" and bound.get("eval_dataset") is None:
        yield Problem(
            "args.eval_strategy",
            str(getattr(given.eval_strategy, "value", given.eval_strategy)),
            "there is no eval_dataset to evaluate on",
            "eval_dataset=..., or eval_strategy='no'",
        )


def _callables(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    for name in ("data_collator", "compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics"):
        value = bound.get(name)
        if value is not None and not callable(value):
            yield Problem(name, value, f"it is a {_kind_of(value)} and cannot be called", f"{name}=a function")
    metrics = bound.get("compute_metrics")
    if given.batch_eval_metrics and callable(metrics) and not _takes(metrics, "compute_result"):
        yield Problem(
            "compute_metrics",
            getattr(metrics, "__name__", metrics),
            "with batch_eval_metrics=True it is told by compute_result when the last batch came",
            "def compute_metrics(prediction, compute_result): ...",
        )
    callbacks = bound.get("callbacks")
    if callbacks is not None and not isinstance(callbacks, list | tuple):
        yield Problem("callbacks", callbacks, f"it is a {_kind_of(callbacks)}, not a list", "callbacks=[...]")
    for callback in callbacks if isinstance(callbacks, list | tuple) else ():
        if not isinstance(callback, TrainerCallback) and not _is_subclass(callback, TrainerCallback):
            yield Problem(
                "callbacks",
                callback,
                f"{_kind_of(callback)} is no transformers.TrainerCallback",
                "a subclass of TrainerCallback, or an object of one",
            )


def _optimizers(bound: dict[str, Any]) -> Iterator[Problem]:
    optimizers = bound.get("optimizers") or (None, None)
    given = any(item is not None for item in optimizers)
    if given and bound.get("model_init") is not None:
        yield Problem(
            "optimizers",
            optimizers,
            "model_init makes a new model, whose parameters this optimizer does not have",
            "optimizer_cls_and_kwargs=(torch.optim.SGD, {'lr': 0.1}), or override create_optimizer",
        )
    if given and bound.get("optimizer_cls_and_kwargs") is not None:
        yield Problem(
            "optimizer_cls_and_kwargs",
            bound["optimizer_cls_and_kwargs"],
            "optimizers was passed as well",
            "pass one of the two",
        )


def _given(given: TrainingArguments) -> Iterator[Problem]:
    if given.save_strategy == "best" and given.metric_for_best_model is None:
        yield Problem(
            "args.metric_for_best_model", None, "save_strategy='best' needs it", "metric_for_best_model='eval_loss'"
        )
    if "label" in (given.label_names or []):
        yield Problem(
            "args.label_names",
            given.label_names,
            "transformers' collator renames a column `label` to `labels`, so no batch has it",
            "call the model's argument labels",
        )
    if given.enable_jit_checkpoint:
        yield Problem(
            "args.enable_jit_checkpoint",
            True,
            "it catches SIGTERM, and a Ray Train worker trains in a thread, where no signal can be caught",
            "leave it out",
        )


def train_call(trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check a call of ``train`` on the driver.

    Args:
        trainer: the driver's trainer.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.

    Returns:
        The call's arguments as the workers shall have them.

    Raises:
        ArgumentsError: there is nothing to train on or to resume from.
    """
    call = inspect.signature(trainer._kind.train).bind(trainer, *args, **kwargs)
    given: TrainingArguments = trainer.args
    if _lacks(trainer, "train_dataset", "get_train_dataloader"):
        _refuse("train_dataset", None, "there is nothing to train on", "train_dataset=... in the constructor")
    if call.arguments.get("trial") is not None:
        no_search_yet()
    resume = call.arguments.get("resume_from_checkpoint")
    if resume is True and not _has_checkpoint(given):
        _refuse(
            "resume_from_checkpoint",
            True,
            f"there is no checkpoint-* folder in {given.output_dir}",
            "resume_from_checkpoint=None to start anew, or output_dir=the folder of the earlier run",
        )
    if isinstance(resume, str | os.PathLike):
        path = os.path.abspath(os.path.expanduser(os.fspath(resume)))
        if not os.path.isfile(os.path.join(path, "trainer_state.json")):
            reason = "it holds no trainer_state.json" if os.path.isdir(path) else "there is no such folder"
            _refuse("resume_from_checkpoint", resume, reason, "a folder checkpoint-* that a Trainer wrote")
        call.arguments["resume_from_checkpoint"] = path
    return call.args[1:], call.kwargs


def _has_checkpoint(given: TrainingArguments) -> bool:
    folder = given.output_dir
    return folder is not None and os.path.isdir(folder) and get_last_checkpoint(folder) is not None


def evaluate_call(trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check a call of ``evaluate`` on the driver.

    Raises:
        ArgumentsError: there is nothing to evaluate on.
    """
    given = args[0] if args else kwargs.get("eval_dataset")
    if given is None and _lacks(trainer, "eval_dataset", "get_eval_dataloader"):
        fix = "trainer.evaluate(dataset), or eval_dataset=... in the constructor"
        _refuse("eval_dataset", None, "there is nothing to evaluate on", fix)


def no_search_yet() -> NoReturn:
    """Refuse a hyperparameter search through the trainer's own method.

    Raises:
        ArgumentsError: always.
    """
    _refuse(
        "hyperparameter_search",
        "called",
        "this version does not search on a cluster",
        "one RayTrainer a setting, or transformers' own Trainer for a search in this process",
    )


def _lacks(trainer: Any, dataset: str, loader: str) -> bool:
    """Tell whether a dataset is not there, and nothing of the user's own that could make one."""
    if vars(trainer).get(dataset) is not None or constructor_of_its_own(trainer._kind):
        return False
    return getattr(trainer._kind, loader) is getattr(Trainer, loader)


def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters


def _is_subclass(value: object, kind: type) -> bool:
    return inspect.isclass(value) and issubclass(value, kind)


def _kind_of(value: object) -> str:
    return value.__name__ if inspect.isclass(value) else type(value).__name__


def _refuse(setting: str, value: object, reason: str, fix: str) -> NoReturn:
    raise ArgumentsError(Problem(setting, value, reason, fix))
