"""The ways in which gpu.py trains a model, and the clock that all of them share: windows of steps, device at rest."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_models import Rows, Subject, collate


@dataclass(frozen=True)
class Pace:
    """How long a figure is measured.

    Args:
        warm_up: steps before the first window.
        windows: how many.
        steps: of a window.
    """

    warm_up: int
    windows: int
    steps: int

    @property
    def total(self) -> int:
        return self.warm_up + self.windows * self.steps


class Windows:
    """Seconds of each window of steps; call :meth:`step` after every step."""

    def __init__(self, pace: Pace) -> None:
        self._pace, self._done, self._began = pace, 0, 0.0
        self.seconds: list[float] = []

    def step(self) -> None:
        self._done += 1
        if (counted := self._done - self._pace.warm_up) < 0 or counted % self._pace.steps:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if counted:
            self.seconds.append(now - self._began)
        self._began = now


def matmul_ceiling(device: torch.device, sizes: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Return the most operations a second that a product of two square bf16 matrices reaches, by size and at best."""
    found = {}
    for size in sizes:
        a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
        windows = Windows(Pace(warm_up=3, windows=5, steps=repeats))
        for _ in range(3 + 5 * repeats):
            torch.mm(a, b)
            windows.step()
        found[str(size)] = 2 * size**3 * repeats / statistics.median(windows.seconds)
    return {**found, "best": max(found.values())}


def by_hand(subject: Subject, device: torch.device, pace: Pace) -> list[float]:
    """Train with a loop as one writes it who knows the device: bf16 autocast, fused AdamW, batches a step ahead."""
    model = subject.build().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    rows = Rows(subject, pace.total * subject.batch)
    pinned = device.type == "cuda"
    loader = torch.utils.data.DataLoader(rows, subject.batch, collate_fn=collate, pin_memory=pinned)
    windows = Windows(pace)
    batches = iter(loader)
    batch: Any = next(batches)
    while batch is not None:
        here = {name: each.to(device, non_blocking=pinned) for name, each in batch.items()}
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(**here).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        batch = next(batches, None)
        windows.step()
    return windows.seconds


@dataclass(frozen=True)
class Way:
    """How transformers' Trainer is asked to train.

    Args:
        arguments: training arguments beside those that say how long.
        attention: the attention kernel; None for transformers' choice.
        only: a backend of torch's scaled_dot_product_attention, the only one allowed; None for its choice.
        lengths: of the rows in turn, None for full rows.
        packed: whether such rows are joined to full ones.
    """

    arguments: dict[str, Any]
    attention: str | None = None
    only: str | None = None
    lengths: tuple[int, ...] | None = None
    packed: bool = False

    def rows(self, subject: Subject, pace: Pace) -> Rows:
        from gpu_models import packed

        count = pace.total * subject.batch
        rows = Rows(subject, count, self.lengths)
        return packed(subject, rows, count) if self.packed else rows


def arguments(folder: str, subject: Subject, pace: Pace, way: Way, device: torch.device) -> dict[str, Any]:
    common = {"per_device_train_batch_size": subject.batch, "max_steps": pace.total, "save_strategy": "no"}
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_steps": pace.total, "use_cpu": device.type == "cpu"}
    return {"output_dir": folder, **common, **quiet, **way.arguments}


def with_transformers(subject: Subject, device: torch.device, pace: Pace, way: Way) -> list[float]:
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder, kernels(way.only):
        args = TrainingArguments(**arguments(folder, subject, pace, way, device))
        clock = clock_into(Path(folder) / "seconds", pace)
        rows = way.rows(subject, pace)
        model = subject.build(way.attention)
        Trainer(model, args, train_dataset=rows, data_collator=collate, callbacks=[clock]).train()
        return list(json.loads((Path(folder) / "seconds").read_text()))


def with_raytrainer(subject: Subject, device: torch.device, pace: Pace, way: Way) -> list[float]:
    from ray.train import ScalingConfig

    from raytrainer import RayTrainer, RayTrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        args = RayTrainingArguments(**arguments(folder, subject, pace, way, device))
        RayTrainer(
            subject.build(way.attention),
            args,
            train_dataset=way.rows(subject, pace),
            data_collator=collate,
            callbacks=[clock_into(Path(folder) / "seconds", pace)],
            scaling_config=ScalingConfig(num_workers=1, use_gpu=device.type == "cuda"),
            precision="auto",
        ).train()
        return list(json.loads((Path(folder) / "seconds").read_text()))


def raytrainer_is_here() -> bool:
    """Tell whether raytrainer and what it needs is installed."""
    return all(importlib.util.find_spec(name) for name in ("ray", "raytrainer", "pydantic", "datasets", "mlflow"))


def clock_into(file: Path, pace: Pace) -> Any:
    """Return a callback that times the windows, and writes them at the end."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.windows = Windows(pace)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.windows.step()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.write_text(json.dumps(self.windows.seconds))

    return Clock()


@contextlib.contextmanager
def kernels(only: str | None) -> Iterator[None]:
    """Allow torch's attention one backend inside the block."""
    if only is None:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, only)):
        yield


def tidy() -> None:
    """Forget what the last measurement left: compiled code, memory of the device."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
