"""Whether mixed precision is right on a device: the scaler skips and recovers, bf16 learns as fp32, fp8 multiplies."""

from __future__ import annotations

import math
from typing import Any

import torch
from gpu_models import Subject, collate

STEPS = 20
LOSS_TOLERANCE, FP8_TOLERANCE = 0.03, 0.06
# fp8's matrix units.
FP8_CAPABILITY = (8, 9)


def check(subject: Subject, device: torch.device) -> dict[str, dict[str, Any]]:
    """Return each check's verdict (``right``: True, False, or None where it cannot be made) and what was seen."""
    return {
        "fp16 scaler": scaler_skips(device),
        "bf16 against fp32": bf16_learns(subject, device),
        "fp8": fp8_multiplies(device),
    }


def scaler_skips(device: torch.device) -> dict[str, Any]:
    """A gradient that is infinite must change no weight and halve the scale; the next step must train again."""
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 16).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10)
    x = torch.randn(8, 16, device=device)
    moved, scales = [], []
    for step in range(4):
        before = model.weight.detach().clone()
        with torch.autocast(device.type, torch.float16):
            loss = model(x).float().square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if step == 1:
            assert model.weight.grad is not None
            model.weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        moved.append(not torch.equal(before, model.weight))
        scales.append(scaler.get_scale())
    right = moved == [True, False, True, True] and scales == [1024.0, 512.0, 512.0, 512.0]
    finite = all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    return {"right": right and finite, "seen": f"weights moved {moved}, scale {scales}"}


def bf16_learns(subject: Subject, device: torch.device) -> dict[str, Any]:
    """The loss after some steps of one batch in bf16 must be that of fp32, but for a few hundredths."""
    losses = {}
    batch = {name: each.to(device) for name, each in collate([subject.row(i) for i in range(4)]).items()}
    for dtype in (torch.float32, torch.bfloat16):
        model = subject.build().to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        torch.manual_seed(0)
        for _ in range(STEPS):
            with torch.autocast(device.type, dtype, enabled=dtype is torch.bfloat16):
                loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[dtype] = float(loss)
    full, half = losses[torch.float32], losses[torch.bfloat16]
    # Of what it began with, ln(vocabulary): both end near nothing on one batch.
    difference = abs(full - half) / math.log(subject.vocabulary)
    seen = f"loss after {STEPS} steps: fp32 {full:.4f}, bf16 {half:.4f}, apart by {difference:.4f} of the first"
    return {"right": difference <= LOSS_TOLERANCE, "seen": seen}


def fp8_multiplies(device: torch.device) -> dict[str, Any]:
    """A scaled fp8 matrix product must be the bf16 one, but for the three bits of its mantissa."""
    if device.type != "cuda":
        return {"right": None, "seen": "skipped: fp8 matrix products need a GPU"}
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip or capability < FP8_CAPABILITY:
        have = f"{torch.cuda.get_device_name(device)} has {'.'.join(map(str, capability))}"
        return {"right": None, "seen": f"skipped: fp8 needs compute capability 8.9, {have}"}
    torch.manual_seed(0)
    a, b = (torch.randn(4096, 4096, device=device, dtype=torch.bfloat16) for _ in range(2))
    most = torch.finfo(torch.float8_e4m3fn).max
    scales = [each.abs().max().float() / most for each in (a, b)]
    eighths = [(each.float() / scale).to(torch.float8_e4m3fn) for each, scale in zip((a, b), scales, strict=True)]
    product = torch._scaled_mm(
        eighths[0], eighths[1].t(), scale_a=scales[0], scale_b=scales[1], out_dtype=torch.bfloat16
    )
    whole = (a @ b.t()).float()
    error = float((product.float() - whole).norm() / whole.norm())
    return {"right": error <= FP8_TOLERANCE, "seen": f"relative error of a 4096 product {error:.4f}"}
