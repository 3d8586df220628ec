"""Writes docs/settings.md, every setting of a config, from the schema: ``python docs/settings.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from raytrainer.config import data, kubernetes, schema, section, sweep_file
from raytrainer.config.setting import Section
from raytrainer.config.wording import expected

PAGE = Path(__file__).with_name("settings.md")
_HEAD = """\
# Every setting

Made from the schema by `python docs/settings.py`. A key in a heading is where the settings below it are. What is not
here is not a setting, and is refused with the nearest name. [Configs](configs.md) says how a file is put together.

`training` has the fields of the installed `transformers.TrainingArguments` (for `seq2seq` of
`Seq2SeqTrainingArguments`), without `output_dir`, `resume_from_checkpoint` and `local_rank`; `model.peft` has those of
`peft.LoraConfig`. `raytrainer schema` prints them all.
"""
_DATA: dict[str, Any] = {name: kind.model_fields["data"].annotation for name, kind in schema.TASKS.items()}
# Heading, class, and the class whose settings are told elsewhere.
_PARTS: list[tuple[str, Any, Any]] = [
    ("Every config", section.Common, None),
    ("With `task` or `trainer`", section.Trained, section.Common),
    ("`scaling`", section.Scaling, None),
    ("`run`", section.Storage, None),
    ("`run.keep`", section.Keep, None),
    ("`mlflow`", section.MLflow, None),
    ("With `task`: `model`", schema.Model, None),
    ("`model.tokenizer`", schema.TrainedTokenizer, None),
    ("With `task`: `data`", data.Data, None),
    ("`data.max_samples`", data.MaxSamples, None),
    *[(f"`data` of `{name}`", kind, data.Data) for name, kind in _DATA.items()],
    ("`seq2seq` alone", schema.Seq2Seq, schema.Task),
    ("With `trainer`", schema.OwnTrainer, section.Trained),
    ("With `script`", schema.Script, section.Common),
    ("In a sweep", sweep_file.Sweep, None),
    ("Each of `search_space`", sweep_file.Swept, None),
    ("`tune`", sweep_file.Tune, None),
    ("`tune.budget`", sweep_file.Budget, None),
    ("`kubernetes`", kubernetes.Kubernetes, None),
    ("`kubernetes.storage`", kubernetes.PodStorage, None),
    ("`kubernetes.head`", kubernetes.Head, None),
    ("`kubernetes.redis`", kubernetes.Redis, None),
    ("A key of a Secret, wherever one is asked for", kubernetes.SecretKey, None),
    ("Each of `kubernetes.tolerations`", kubernetes.Toleration, None),
]


def page() -> str:
    """Return the page as it should be."""
    return "\n".join([_HEAD, *(part for row in _PARTS for part in _table(*row))])


def _table(heading: str, part: type[Section], above: type[Section] | None) -> Iterator[str]:
    told = above.model_fields if above is not None else {}
    fields = [name for name in part.model_fields if name not in told]
    yield f"## {heading}\n\n| key | what it takes | default | |\n|---|---|---|---|"
    yield "\n".join(_row(part, name) for name in fields) + "\n"


def _row(part: type[Section], name: str) -> str:
    field = part.model_fields[name]
    key = field.alias or name
    default = "to be set" if field.is_required() else _default(field.get_default(call_default_factory=True))
    takes = expected(part.model_json_schema(by_alias=True), (key,))
    cells: Sequence[str] = (f"`{key}`", takes, default, " ".join((field.description or "").split()))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Section):
        return "as below"
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
