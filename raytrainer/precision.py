"""Which precision a run computes in, decided once from what was asked for and what every worker's device can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytrainer.devices import DeviceFacts, device_facts, require_tpu_software
from raytrainer.errors import PrecisionError, Problem, unknown_name

__all__ = [
    "REQUESTS",
    "DeviceFacts",
    "Precision",
    "choose_precision",
    "conflicting_precision",
    "device_facts",
    "require_tpu_software",
]

REQUESTS = ("auto", "bf16", "fp16", "fp32")
_NEEDS = {
    "bf16": "bf16 needs NVIDIA compute capability 8.0, AMD MI200, a TPU or newer",
    "fp16": "fp16 with gradient scaling needs a GPU (on a CPU transformers would quietly train in fp32)",
    "tf32": "TF32 needs NVIDIA compute capability 8.0 or newer",
}


@dataclass(frozen=True)
class Precision:
    """What all ranks of a run compute in.

    Args:
        name: ``bf16``, ``fp16`` (with gradient scaling) or ``fp32``.
        reason: one sentence: on which hardware, and why.
    """

    name: str
    reason: str

    def arguments(self) -> dict[str, Any]:
        """Name the fields of TrainingArguments that this choice sets.

        Returns:
            ``bf16`` and ``fp16``.
        """
        return {"bf16": self.name == "bf16", "fp16": self.name == "fp16"}


def choose_precision(request: str | None, arguments: Mapping[str, Any], devices: Iterable[DeviceFacts]) -> Precision:
    """Decide what a run computes in, the same on all of its workers.

    Args:
        request: ``auto``, ``bf16``, ``fp16``, ``fp32``, or None for what the arguments say.
        arguments: TrainingArguments' fields as the user gave them, of which ``bf16``, ``fp16``, ``tf32``,
            ``bf16_full_eval`` and ``fp16_full_eval`` are read.
        devices: the facts of every worker's device, in any order.

    Returns:
        The choice and its reason.

    Raises:
        PrecisionError: the settings contradict each other, or ask for what some worker's device cannot do.
    """
    workers = sorted(devices, key=lambda device: device.rank)
    assert workers, "a run has at least one worker"
    problems = [*conflicting_precision(request, arguments), *_impossible(request, arguments, workers)]
    if problems:
        raise PrecisionError(*problems)
    field = next((name for name in ("bf16", "fp16") if arguments.get(name)), None)
    if request in ("bf16", "fp16", "fp32"):
        return _asked(str(request), f"precision={request!r} asks for it", workers)
    if field is not None:
        return _asked(field, f"{field}=True asks for it", workers)
    if request is None:
        return _asked("fp32", "neither bf16 nor fp16 is set", workers)
    return _best(workers)


def conflicting_precision(request: str | None, arguments: Mapping[str, Any]) -> list[Problem]:
    """Find what contradicts itself on any hardware, so that a driver without a GPU can say it.

    Args:
        request: as in `choose_precision`.
        arguments: as in `choose_precision`.

    Returns:
        What is wrong, empty when nothing is.
    """
    if request is not None and request not in REQUESTS:
        return [Problem("precision", request, "no such precision", unknown_name(str(request), REQUESTS))]
    problems = [
        Problem(
            "precision",
            request,
            f"the training arguments set {field}=True",
            f"set precision={field!r}, or leave {field} out",
        )
        for field in ("bf16", "fp16")
        if arguments.get(field) and request not in (None, "auto", field)
    ]
    problems += [
        Problem(fp16, True, f"{bf16} is set too, and only one of them can be", f"leave {fp16} or {bf16} out")
        for bf16, fp16 in (("bf16", "fp16"), ("bf16_full_eval", "fp16_full_eval"))
        if arguments.get(bf16) and arguments.get(fp16)
    ]
    return problems


def _impossible(request: str | None, arguments: Mapping[str, Any], workers: Sequence[DeviceFacts]) -> list[Problem]:
    asked: list[tuple[str, object, str]] = [("precision", request, str(request))] if request in ("bf16", "fp16") else []
    asked += [
        (field, True, needs)
        for field, needs in (("bf16", "bf16"), ("fp16", "fp16"), ("bf16_full_eval", "bf16"), ("tf32", "tf32"))
        if arguments.get(field) and field != request
    ]
    best = f"precision='auto', which gives {_best(workers).name} on these workers"
    fixes = {"precision": best, "bf16": f"leave bf16 out and set {best}", "fp16": f"leave fp16 out and set {best}"}
    return [
        Problem(field, value, f"{_NEEDS[needs]}; not so {_names(unable)}", fixes.get(field, f"leave {field} out"))
        for field, value, needs in asked
        if (unable := [device for device in workers if not _can(device, needs)])
    ]


def _can(device: DeviceFacts, needs: str) -> bool:
    # Autocast to bf16 works on every CPU: torch emulates the instructions where they are missing.
    return bool(getattr(device, needs)) or (needs == "bf16" and device.kind == "cpu")


def _asked(name: str, why: str, workers: Sequence[DeviceFacts]) -> Precision:
    slow = [device for device in workers if name == "bf16" and not device.bf16]
    warning = f"; slow, because there are no bf16 instructions in {_names(slow)}" if slow else ""
    return Precision(name, f"{name} on {_names(workers)}, because {why}{warning}")


def _best(workers: Sequence[DeviceFacts]) -> Precision:
    without_bf16 = [device for device in workers if not device.bf16]
    without_fp16 = [device for device in workers if not device.fp16]
    if not without_bf16:
        return Precision("bf16", f"bf16 on {_names(workers)}, because every worker has bf16 instructions")
    no_bf16 = f"there are no bf16 instructions in {_names(without_bf16)}"
    if not without_fp16:
        return Precision("fp16", f"fp16 with gradient scaling on {_names(workers)}, because {no_bf16}")
    return Precision(
        "fp32",
        f"fp32 on {_names(workers)}, because {no_bf16}, nor fp16 with gradient scaling on {_names(without_fp16)}",
    )


def _names(devices: Sequence[DeviceFacts]) -> str:
    ranks: dict[str, list[int]] = {}
    for device in devices:
        match device.capability:
            case (major, minor):
                name = f"{device.name} of compute capability {major}.{minor}"
            case str(architecture):
                name = f"{device.name} of architecture {architecture}"
            case _:
                name = device.name
        ranks.setdefault(name, []).append(device.rank)
    return " and ".join(f"{name} ({_ranks(those)})" for name, those in ranks.items())


def _ranks(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    more = f" and {len(ranks) - 4} more" if len(ranks) > 4 else ""
    return f"ranks {', '.join(str(rank) for rank in ranks[:4])}{more}"
