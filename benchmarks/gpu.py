"""What a GPU gives: tokens a second and share of its measured matrix-multiply ceiling; AMP; what each means brings.

For a 124M and a 1B decoder and a T5, random weights and tokens, bf16, trained in turn by

raytrainer      RayTrainer(precision="auto") with default arguments, where Ray and raytrainer are installed
transformers    Trainer with default arguments and bf16=True
its defaults    Trainer with default arguments, which is fp32
by hand         a loop with bf16 autocast, fused AdamW and clipping

A figure is the median of several windows of steps after a warm-up, the device synchronised at both ends of each. The
ceiling is the best of several sizes of bf16 matrix products on this device, measured first. A model's operations are
all its matrix products, counted by torch, attention in full though it is causal: the share is that of operations that
the model asks for, so a kernel that leaves half of them out gains by it.

Means: on the first decoder with rows of mixed lengths, transformers' Trainer in bf16 with eager attention, the
optimizer not fused, no compiler, batches in pageable memory, padded. Each means is changed alone; its figure is tokens
of text, padding not counted, over the baseline's.

Runs with plain python3, torch and transformers. Without a GPU it runs at toy size, which tells only that it works.
Run: python3 benchmarks/gpu.py --help
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

# transformers' Trainer would split batches over all GPUs of a machine.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from figures import Goal, conclude, machine, parser
from gpu_amp import check
from gpu_models import FULL, TOY, Subject
from gpu_ways import (
    Pace,
    Way,
    by_hand,
    matmul_ceiling,
    raytrainer_is_here,
    tidy,
    with_raytrainer,
    with_transformers,
)

PARTS = ("ceiling", "models", "amp", "means")
BF16 = {"bf16": True}
PLAIN = {**BF16, "optim": "adamw_torch", "dataloader_pin_memory": False}


def tried(measure: Callable[[], list[float]]) -> tuple[list[float], str | None]:
    """Measure; what fails is noted, so that a machine that is lent for minutes gives the other figures."""
    tidy()
    try:
        return measure(), None
    except Exception as error:
        return [], f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
    finally:
        tidy()


def memory_gb() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def measure_models(
    subjects: tuple[Subject, ...], device: torch.device, pace: Pace, ceiling: float
) -> list[dict[str, Any]]:
    ways: dict[str, Callable[[Subject], list[float]]] = {
        "transformers": lambda subject: with_transformers(subject, device, pace, Way(BF16)),
        "its defaults": lambda subject: with_transformers(subject, device, pace, Way({})),
        "by hand": lambda subject: by_hand(subject, device, pace),
    }
    if raytrainer_is_here():
        ways["raytrainer"] = lambda subject: with_raytrainer(subject, device, pace, Way({}))
    rows = []
    for subject in subjects:
        flops = subject.flops()
        for name, way in ways.items():
            seconds, failure = tried(lambda way=way, subject=subject: way(subject))  # type: ignore[misc]
            row: dict[str, Any] = {"model": subject.name, "way": name, "failed": failure}
            if seconds:
                step = statistics.median(seconds) / pace.steps
                row |= {"tokens_per_s": subject.tokens / step, "share_of_ceiling": flops / step / ceiling}
                row |= {"windows_s": seconds, "flops_a_step": flops}
            rows.append(row)
            told = failure or f"{row['tokens_per_s']:12,.0f} tokens/s  {row['share_of_ceiling']:6.1%} of the ceiling"
            print(f"{subject.name:14}  {name:14}  {told}", flush=True)
    return rows


def means(subject: Subject, toy: bool) -> dict[str, Way]:
    """Return the baseline and what is changed against it, one thing at a time."""
    # At toy size it is asked to compile nothing: a C++ compiler's minute would tell no more.
    compiled = {"torch_compile": True, "torch_compile_backend": "eager" if toy else "inductor"}
    lengths = tuple(max(4, subject.length * part // 8) for part in (8, 2, 5, 3, 7, 1, 6, 4))
    eager: dict[str, Any] = {"attention": "eager", "lengths": lengths}
    prefetch = {"dataloader_pin_memory": True, "dataloader_num_workers": 2, "dataloader_prefetch_factor": 4}
    return {
        "baseline": Way(PLAIN, **eager),
        "torch.compile": Way({**PLAIN, **compiled}, **eager),
        "fused optimizer": Way({**PLAIN, "optim": "adamw_torch_fused"}, **eager),
        "attention: sdpa": Way(PLAIN, "sdpa", lengths=lengths),
        # torch's own flash kernel takes no mask: rows are full here, and so are they in the figure beside it.
        "attention: eager, full rows": Way(PLAIN, "eager"),
        "attention: flash of torch, full rows": Way(PLAIN, "sdpa", only="FLASH_ATTENTION"),
        "attention: flash_attention_2": Way(PLAIN, "flash_attention_2", lengths=lengths),
        "packing": Way(PLAIN, "eager", lengths=lengths, packed=True),
        "pinned prefetch": Way({**PLAIN, **prefetch}, **eager),
    }


def measure_means(subject: Subject, device: torch.device, pace: Pace, toy: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    of_text: dict[str, float] = {}
    for name, way in means(subject, toy).items():
        seconds, failure = tried(lambda way=way: with_transformers(subject, device, pace, way))  # type: ignore[misc]
        row: dict[str, Any] = {"means": name, "failed": failure}
        if seconds:
            share = statistics.mean(way.lengths) / subject.length if way.lengths and not way.packed else 1.0
            of_text[name] = subject.tokens * share * pace.steps / statistics.median(seconds)
            against = "attention: eager, full rows" if name.endswith("full rows") else "baseline"
            row |= {"text_tokens_per_s": of_text[name], "windows_s": seconds, "against": against}
            row |= {"ratio": of_text[name] / of_text[against]} if against in of_text else {}
        rows.append(row)
        told = failure or f"{row['text_tokens_per_s']:12,.0f} tokens/s  {row.get('ratio', float('nan')):5.2f}"
        print(f"{name:38}  {told}", flush=True)
    return rows


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--toy", action="store_true", help="tiny models; tells whether it works, not how fast it is")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--only", nargs="+", help="names of models, else all")
    options.add_argument("--batch", type=int, help="rows of a step, in the place of each model's own")
    options.add_argument("--windows", type=int, default=5)
    options.add_argument("--steps", type=int, default=10, help="of a window")
    options.add_argument("--warm-up", type=int, default=10, help="steps before the first window")
    given = options.parse_args(words)
    gpu = torch.cuda.is_available()
    toy = given.toy or not gpu
    device = torch.device("cuda" if gpu and not given.toy else "cpu")
    if toy:
        print("toy size: the figures say nothing about speed", flush=True)
    begun, began = machine(), time.monotonic()
    subjects = tuple(each for each in (TOY if toy else FULL) if not given.only or each.name in given.only)
    if given.batch:
        subjects = tuple(Subject(each.name, each.config, each.length, given.batch) for each in subjects)
    pace = Pace(given.warm_up, given.windows, given.steps)
    results: dict[str, Any] = {"toy": toy, "device": torch.cuda.get_device_name() if gpu else "cpu"}
    results["ceiling_flops"] = matmul_ceiling(device, (64,) if toy else (4096, 8192, 16384), 2 if toy else 10)
    print(f"ceiling: {results['ceiling_flops']['best'] / 1e12:.1f} TFLOP/s of bf16 matrix products", flush=True)
    goals = []
    if "models" in given.parts:
        results["models"] = measure_models(subjects, device, pace, results["ceiling_flops"]["best"])
        goals.append(Goal("models that failed", sum(row["failed"] is not None for row in results["models"]), 0))
    if "amp" in given.parts:
        results["amp"] = check(subjects[0], device)
        for name, one in results["amp"].items():
            verdict = {True: "right", False: "WRONG", None: ""}[one["right"]]
            print(f"{name:18}  {verdict:5}  {one['seen']}", flush=True)
        goals.append(Goal("AMP checks that failed", sum(one["right"] is False for one in results["amp"].values()), 0))
    if "means" in given.parts:
        results["means"] = measure_means(subjects[0], device, pace, toy)
    results["seconds"] = round(time.monotonic() - began, 1)
    conclude("gpu", results, goals, begun, given.json)


if __name__ == "__main__":
    main()
