"""What one worker's device can compute in: the facts that the precision of a run is decided from."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from raytrainer.errors import Problem, ResourcesError


@dataclass(frozen=True)
class DeviceFacts:
    """What one worker's device can compute in.

    Args:
        rank: world rank of the worker.
        kind: ``cuda`` (NVIDIA), ``rocm`` (AMD), ``tpu``, ``cpu``, or torch's name of another accelerator.
        name: the device's name as torch reports it.
        capability: compute capability on NVIDIA, architecture (``gfx90a``) on AMD, None elsewhere.
        bf16: has bf16 instructions; where this is False, bf16 is emulated at best.
        fp16: can train in fp16 with gradient scaling.
        tf32: can multiply fp32 matrices in TF32.
    """

    rank: int
    kind: str
    name: str
    capability: tuple[int, int] | str | None
    bf16: bool
    fp16: bool
    tf32: bool


def cuda_facts(rank: int, name: str, capability: tuple[int, int]) -> DeviceFacts:
    """Tell what an NVIDIA GPU of this compute capability can do: bf16 and TF32 came with Ampere, 8.0."""
    ampere = capability >= (8, 0)
    return DeviceFacts(rank, "cuda", name, capability, bf16=ampere, fp16=True, tf32=ampere)


def rocm_facts(rank: int, name: str, architecture: str) -> DeviceFacts:
    """Tell what an AMD GPU of this architecture can do: bf16 is in MI200 (gfx90a) and later, and in RDNA 3 and 4."""
    bf16 = re.match(r"gfx(90a|94|95|11|12)", architecture) is not None
    # torch offers TF32 on gfx94x, but transformers refuses tf32=True wherever torch is not a CUDA build.
    return DeviceFacts(rank, "rocm", name, architecture.partition(":")[0], bf16=bf16, fp16=True, tf32=False)


def cpu_facts(rank: int, name: str, instructions: Collection[str]) -> DeviceFacts:
    """Tell what a CPU with these instruction sets (spelt as in /proc/cpuinfo) can do."""
    bf16 = not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(instructions)
    return DeviceFacts(rank, "cpu", name, None, bf16=bf16, fp16=False, tf32=False)


def tpu_facts(rank: int, name: str) -> DeviceFacts:
    """Tell what a TPU can do: bf16 is its own format, and accelerate refuses fp16 on it."""
    return DeviceFacts(rank, "tpu", name, None, bf16=True, fp16=False, tf32=False)


def device_facts(rank: int, *, use_cpu: bool) -> DeviceFacts:
    """Look at the device that this process computes on.

    Args:
        rank: world rank of this worker.
        use_cpu: compute on the CPU whatever else is there (``TrainingArguments.use_cpu``).

    Returns:
        The facts of this process's current device.
    """
    import torch

    if use_cpu:
        return _this_cpu(rank)
    if importlib.util.find_spec("torch_xla") is not None:
        from torch_xla import runtime

        if runtime.device_type() == "TPU":
            return tpu_facts(rank, os.environ.get("TPU_ACCELERATOR_TYPE", "TPU"))
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        if torch.version.hip:
            return rocm_facts(rank, properties.name, properties.gcnArchName)
        return cuda_facts(rank, properties.name, (properties.major, properties.minor))
    other = torch.accelerator.current_accelerator()
    if other is None:
        return _this_cpu(rank)
    from transformers.utils.import_utils import is_torch_bf16_gpu_available

    return DeviceFacts(rank, other.type, other.type, None, is_torch_bf16_gpu_available(), fp16=True, tf32=False)


def _this_cpu(rank: int) -> DeviceFacts:
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is None:  # older torch
        info = Path("/proc/cpuinfo")
        return cpu_facts(rank, *read_cpuinfo(info.read_text() if info.exists() else ""))
    found = capabilities()
    name = found.get("cpu_name") or platform.processor() or platform.machine()
    return cpu_facts(rank, str(name), [instruction for instruction, there in found.items() if there is True])


def read_cpuinfo(text: str) -> tuple[str, list[str]]:
    """Find the processor's name and instruction sets in the text of Linux's /proc/cpuinfo.

    Args:
        text: the file's text, empty where there is no such file.

    Returns:
        The model's name (the architecture where the file has none, as on ARM) and the names of its instruction sets.
    """
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    instructions = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    return name[1] if name else platform.machine(), instructions[1].split() if instructions else []


def require_tpu_software() -> None:
    """Refuse ``use_tpu`` where this Python cannot drive a TPU.

    Raises:
        ResourcesError: torch_xla is not installed.
    """
    if importlib.util.find_spec("torch_xla") is None:
        raise ResourcesError(
            Problem(
                "scaling_config.use_tpu",
                True,
                "PyTorch drives a TPU through the package torch_xla, which is not installed on the worker",
                "install torch_xla[tpu] in the same minor version as torch on every TPU worker, or leave use_tpu out",
            )
        )
