"""Rules about settings that are right by themselves and wrong together: workers, storage, model, data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raytrainer.config.view import Finding, Rule, View

_FILES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".txt", ".gz", ".zst")


def accelerator(view: View) -> Iterator[Finding]:
    """A worker has GPUs or a TPU."""
    if view("scaling", "use_gpu") and view("scaling", "use_tpu"):
        yield ("scaling", "use_tpu"), "scaling.use_gpu is true, too", "one of the two"
    if view("scaling", "use_gpu") and view("training", "use_cpu"):
        yield ("training", "use_cpu"), "scaling.use_gpu is true", "one of the two"
    if view.has("scaling", "topology") and not view("scaling", "use_tpu"):
        yield ("scaling", "topology"), "it is of TPUs", "use_tpu: true beside it"


def number_of_workers(view: View) -> Iterator[Finding]:
    """The least comes before the most."""
    number = view("scaling", "num_workers")
    if isinstance(number, list) and number[0] > number[1]:
        yield ("scaling", "num_workers"), "the least comes before the most", f"[{number[1]}, {number[0]}]"


def script(view: View) -> Iterator[Finding]:
    """A script says itself which checkpoints stay, and how many examples a step has."""
    if view.has("run", "keep"):
        yield ("run", "keep"), "the script's own arguments say which checkpoints stay", "save_total_limit there"
    if isinstance(view("scaling", "num_workers"), list):
        reason = "what an optimizer step of a script takes is known to the script alone"
        yield ("scaling", "num_workers"), reason, f"{view('scaling', 'num_workers')[1]}"


def kept(view: View) -> Iterator[Finding]:
    """One setting says which checkpoints stay."""
    if not view.has("run", "keep"):
        return
    if view.has("training", "save_total_limit"):
        fix = f"run.keep alone, for example keep: {{last: {view('training', 'save_total_limit')}}}"
        yield ("training", "save_total_limit"), "run.keep says which checkpoints stay", fix


def registered(view: View) -> Iterator[Finding]:
    """An alias is of a version in the registry, which is a model in MLflow."""
    if view.has("mlflow", "alias") and not view.has("mlflow", "register"):
        yield ("mlflow", "alias"), "it names a version of a registered model", "register: a name, beside it"
    if view.has("mlflow", "register") and view("mlflow", "log_model") is False:
        yield ("mlflow", "log_model"), "mlflow.register puts the model into MLflow", "the config without it"


def model_of_script(view: View) -> Iterator[Finding]:
    """Where a script saves its model is known to the script alone."""
    for name in ("register", "log_model"):
        if view("mlflow", name):
            fix = "the config without it; after the run mlflow.transformers.log_model, of the model that it saved"
            yield ("mlflow", name), "where a script saves its model is known to the script alone", fix


def model_source(view: View) -> Iterator[Finding]:
    """A model has a name or a configuration."""
    named, new = view.has("model", "name"), view.has("model", "from_config")
    if named and new:
        yield ("model", "from_config"), "model.name is given, too", "one of the two"
    if not named and not new:
        yield ("model",), "nothing says which model", "name: a pretrained model, or from_config: {model_type: ...}"
    if new and not named and view.has("model", "revision"):
        yield ("model", "revision"), "it is of a pretrained model, and from_config makes a new one", "model.name"


def type_of_weights(view: View) -> Iterator[Finding]:
    """Only the weights of a pretrained model have a type already."""
    if view("model", "dtype") == "auto" and view.has("model", "from_config"):
        reason = "it is what a pretrained model's weights are, and from_config makes a new one"
        yield ("model", "dtype"), reason, "float32, or bfloat16"


def model_type(view: View) -> Iterator[Finding]:
    """A new model is of a type."""
    new = view("model", "from_config")
    if new is not None and not isinstance(new.get("model_type"), str):
        path = ("model", "from_config", "model_type") if "model_type" in new else ("model", "from_config")
        yield path, "a new model is of a type that transformers knows", "model_type: t5, for example"


def tokenizer_of_new_model(view: View) -> Iterator[Finding]:
    """Only a pretrained model brings a tokenizer."""
    if view.has("model", "from_config") and not view.has("model", "tokenizer"):
        fix = "tokenizer: characters, words or bpe, or a tokenizer's name or folder"
        yield ("model", "tokenizer"), "a new model has no tokenizer of its own", fix


def no_tokenizer(view: View) -> Iterator[Finding]:
    """Pictures have no tokens."""
    if view.has("model", "tokenizer"):
        yield ("model", "tokenizer"), "pictures have no tokens", "the model without it"


def hub(view: View) -> Iterator[Finding]:
    """A dataset on the hub has splits; files have none."""
    for name in ("subset", "revision"):
        if view.has("data", name) and not view.has("data", "hub"):
            yield ("data", name), "it is of a dataset on the hub", "hub: the dataset's name, beside it"
    if not view.has("data", "hub"):
        return
    if view.has("data", "format"):
        yield ("data", "format"), "it is of files, and data.hub is given", "one of the two"
    for name in ("train", "eval", "test"):
        given = view("data", name)
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, str) and ("/" in one or one.lower().endswith(_FILES)):
                yield (
                    ("data", name),
                    "it is a file, and with data.hub it names a split",
                    "train, for example; or no hub",
                )
                break


def evaluation_data(view: View) -> Iterator[Finding]:
    """An evaluation needs data."""
    if view.has("data", "eval"):
        return
    fix = "data.eval: files, or a share of the training data such as 0.1"
    if (strategy := view.training("eval_strategy")) != "no":
        yield ("training", "eval_strategy"), f"it is {strategy!r}, and there is no data to evaluate on", fix
    elif view("training", "eval_on_start"):
        yield ("training", "eval_on_start"), "there is no data to evaluate on", fix


def columns(*names: str) -> Rule:
    """Make the rule that columns with different meanings are different columns."""

    def rule(view: View) -> Iterator[Finding]:
        meant: dict[str, str] = {}
        for name in names:
            given = view("data", name, default=name if name != "text_pair" else None)
            for column in given if isinstance(given, list) else [given]:
                if column is not None and column in meant:
                    reason = f"data.{meant[column]} is the column {column!r}, too"
                    yield ("data", name), reason, "the name of another column"
                elif column is not None:
                    meant[column] = name

    return rule


def labels(view: View) -> Iterator[Finding]:
    """Labels have different names; several columns are several labels; a number has no names."""
    names, kind = view("data", "labels"), view("data", "problem_type")
    if names is not None and len(set(names)) < len(names):
        yield ("data", "labels"), "a name is in it twice", "each name once"
    if names is not None and kind == "regression":
        yield (
            ("data", "labels"),
            "a number that is estimated has no names",
            "data without labels, or another problem_type",
        )
    columns = view("data", "label")
    if not isinstance(columns, list):
        return
    if names is not None and len(names) != len(columns):
        reason = f"data.label names {len(columns)} columns, and each is a label"
        yield ("data", "labels"), reason, f"{len(columns)} names in the order of the columns"
    if kind not in (None, "multi_label_classification"):
        fix = "multi_label_classification, or one column"
        yield ("data", "problem_type"), "data.label names several columns, and those are several labels", fix


def kept_examples(view: View) -> Iterator[Finding]:
    """A filter is a value, values, or bounds."""
    for column, wanted in (view("data", "filter") or {}).items():
        if reason := _filter_problem(wanted):
            yield ("data", "filter", column), reason, "a value, a list of values, or {min: , max: , not: }"


def _filter_problem(wanted: Any) -> str | None:
    if isinstance(wanted, list):
        nested = any(isinstance(value, list | Mapping) for value in wanted)
        return "a value in the list is no single one" if nested else None if wanted else "the list is empty"
    if not isinstance(wanted, Mapping):
        return None
    least, most = wanted.get("min"), wanted.get("max")
    if unknown := [str(key) for key in wanted if key not in ("min", "max", "not")]:
        return f"{unknown[0]} is not among min, max, not"
    if not wanted:
        return "it is empty"
    if any(isinstance(bound, bool | str | list | Mapping) for bound in (least, most)):
        return "a bound is a number; of a text or a list it is the length"
    return "min is above max" if least is not None and most is not None and least > most else None


WORKERS: list[Rule] = [accelerator, number_of_workers, registered]
KEPT: list[Rule] = [kept]
SCRIPT: list[Rule] = [script, model_of_script]
DATA: list[Rule] = [model_source, type_of_weights, model_type, hub, evaluation_data, kept_examples]
BY_TASK: dict[str, list[Rule]] = {
    "text-classification": [tokenizer_of_new_model, columns("text", "text_pair", "label"), labels],
    "token-classification": [tokenizer_of_new_model, columns("tokens", "tags"), labels],
    "causal-lm": [tokenizer_of_new_model],
    "masked-lm": [tokenizer_of_new_model],
    "seq2seq": [tokenizer_of_new_model, columns("source", "target")],
    "image-classification": [no_tokenizer, columns("image", "label"), labels],
}
