"""HuggingFace trainers as Ray Train worker functions: the public names, loaded when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytrainer.arguments import RaySeq2SeqTrainingArguments, RayTrainingArguments
    from raytrainer.trainer import RaySeq2SeqTrainer, RayTrainer, distribute
    from raytrainer.warming import warm_up

__version__ = "0.1.0"

__all__ = [
    "RaySeq2SeqTrainer",
    "RaySeq2SeqTrainingArguments",
    "RayTrainer",
    "RayTrainingArguments",
    "distribute",
    "warm_up",
]

_HOME = {
    "RaySeq2SeqTrainer": "trainer",
    "RaySeq2SeqTrainingArguments": "arguments",
    "RayTrainer": "trainer",
    "RayTrainingArguments": "arguments",
    "distribute": "trainer",
    "warm_up": "warming",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raytrainer' has no attribute {name!r}")
    from importlib import import_module

    from raytrainer.importing import collecting_paused

    with collecting_paused():
        return getattr(import_module(f"raytrainer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
