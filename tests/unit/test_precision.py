"""Precision: what each device can do, what a group of them agrees on, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from raytrainer.devices import cpu_facts, cuda_facts, read_cpuinfo, rocm_facts, tpu_facts
from raytrainer.errors import PrecisionError, ResourcesError
from raytrainer.precision import (
    DeviceFacts,
    Precision,
    choose_precision,
    conflicting_precision,
    device_facts,
    require_tpu_software,
)

Make = Callable[[int], DeviceFacts]

DEVICES: dict[str, Make] = {
    "H100": lambda rank: cuda_facts(rank, "NVIDIA H100 80GB HBM3", (9, 0)),
    "A100": lambda rank: cuda_facts(rank, "NVIDIA A100-SXM4-40GB", (8, 0)),
    "T4": lambda rank: cuda_facts(rank, "Tesla T4", (7, 5)),
    "V100": lambda rank: cuda_facts(rank, "Tesla V100-SXM2-16GB", (7, 0)),
    "MI300": lambda rank: rocm_facts(rank, "AMD Instinct MI300X", "gfx942:sramecc+:xnack-"),
    "MI250": lambda rank: rocm_facts(rank, "AMD Instinct MI250X", "gfx90a:sramecc+:xnack-"),
    "MI100": lambda rank: rocm_facts(rank, "AMD Instinct MI100", "gfx908:sramecc+:xnack-"),
    "TPU": lambda rank: tpu_facts(rank, "v4-8"),
    "new CPU": lambda rank: cpu_facts(rank, "AMD EPYC 9654", ["avx2", "avx512_bf16"]),
    "old CPU": lambda rank: cpu_facts(rank, "Intel Xeon E5-2680", ["avx2"]),
}


def group(*names: str) -> list[DeviceFacts]:
    return [DEVICES[name](rank) for rank, name in enumerate(names)]


@pytest.mark.parametrize(
    ("name", "bf16", "fp16", "tf32"),
    [
        ("H100", True, True, True),
        ("A100", True, True, True),
        ("T4", False, True, False),
        ("V100", False, True, False),
        ("MI300", True, True, False),
        ("MI250", True, True, False),
        ("MI100", False, True, False),
        ("TPU", True, False, False),
        ("new CPU", True, False, False),
        ("old CPU", False, False, False),
    ],
)
def test_what_a_device_can_do(name: str, bf16: bool, fp16: bool, tf32: bool) -> None:
    facts = DEVICES[name](3)
    assert (facts.rank, facts.bf16, facts.fp16, facts.tf32) == (3, bf16, fp16, tf32)


@pytest.mark.parametrize(
    ("architecture", "bf16"),
    [("gfx906", False), ("gfx940", True), ("gfx950", True), ("gfx1030", False), ("gfx1100", True), ("gfx1201", True)],
)
def test_amd_architectures(architecture: str, bf16: bool) -> None:
    assert rocm_facts(0, "AMD", architecture).bf16 is bf16


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16", "bf16"])
def test_cpu_instructions(instruction: str) -> None:
    assert cpu_facts(0, "CPU", [instruction]).bf16


@pytest.mark.parametrize(
    ("names", "chosen", "because"),
    [
        (["H100"], "bf16", "bf16 on NVIDIA H100 80GB HBM3 of compute capability 9.0 (rank 0)"),
        (["H100", "A100"], "bf16", "every worker has bf16 instructions"),
        (["MI250", "H100"], "bf16", "AMD Instinct MI250X of architecture gfx90a (rank 0)"),
        (["TPU", "TPU"], "bf16", "v4-8 (ranks 0, 1)"),
        (["new CPU"], "bf16", "AMD EPYC 9654 (rank 0)"),
        (
            ["V100", "V100"],
            "fp16",
            "no bf16 instructions in Tesla V100-SXM2-16GB of compute capability 7.0 (ranks 0, 1)",
        ),
        (["T4"], "fp16", "fp16 with gradient scaling on Tesla T4"),
        (["MI100"], "fp16", "no bf16 instructions in AMD Instinct MI100 of architecture gfx908 (rank 0)"),
        (["H100", "V100"], "fp16", "no bf16 instructions in Tesla V100-SXM2-16GB of compute capability 7.0 (rank 1)"),
        (["old CPU"], "fp32", "no bf16 instructions in Intel Xeon E5-2680 (rank 0), nor fp16"),
        (
            ["T4", "TPU"],
            "fp32",
            "in Tesla T4 of compute capability 7.5 (rank 0), nor fp16 with gradient scaling on v4-8",
        ),
        (["H100", "old CPU"], "fp32", "nor fp16 with gradient scaling on Intel Xeon E5-2680 (rank 1)"),
        (["new CPU"] * 6, "bf16", "AMD EPYC 9654 (ranks 0, 1, 2, 3 and 2 more)"),
    ],
)
def test_auto(names: list[str], chosen: str, because: str) -> None:
    precision = choose_precision("auto", {}, group(*names))
    assert precision.name == chosen
    assert because in precision.reason


@given(st.lists(st.sampled_from(sorted(DEVICES)), min_size=1, max_size=6), st.randoms())
def test_all_ranks_decide_alike_in_whatever_order_they_hear_of_each_other(names: list[str], random: Any) -> None:
    devices = group(*names)
    shuffled = random.sample(devices, len(devices))
    precision = choose_precision("auto", {}, devices)
    assert choose_precision("auto", {}, shuffled) == precision
    can = {"bf16": [d.bf16 for d in devices], "fp16": [d.fp16 for d in devices], "fp32": [True]}
    assert precision.name == next(name for name in ("bf16", "fp16", "fp32") if all(can[name]))


@pytest.mark.parametrize(
    ("request_", "arguments", "names", "chosen", "because"),
    [
        (None, {}, ["H100"], "fp32", "neither bf16 nor fp16 is set"),
        (None, {"bf16": False, "fp16": None}, ["H100"], "fp32", "neither bf16 nor fp16 is set"),
        (None, {"bf16": True}, ["H100"], "bf16", "bf16=True asks for it"),
        (None, {"fp16": True}, ["H100", "V100"], "fp16", "fp16=True asks for it"),
        (None, {"bf16": True}, ["old CPU"], "bf16", "slow, because there are no bf16 instructions in Intel Xeon E5"),
        (None, {"tf32": True}, ["A100"], "fp32", "neither"),
        (None, {"tf32": False}, ["T4"], "fp32", "neither"),
        (None, {"bf16_full_eval": True}, ["old CPU"], "fp32", "neither"),
        (None, {"fp16_full_eval": True}, ["new CPU"], "fp32", "neither"),
        ("auto", {"fp16": True}, ["H100"], "fp16", "fp16=True asks for it"),
        ("auto", {"bf16": True}, ["old CPU"], "bf16", "bf16=True asks for it"),
        ("bf16", {}, ["MI250"], "bf16", "precision='bf16' asks for it"),
        ("bf16", {"bf16": True}, ["A100"], "bf16", "precision='bf16' asks for it"),
        ("fp16", {}, ["H100"], "fp16", "precision='fp16' asks for it"),
        ("fp32", {}, ["H100"], "fp32", "precision='fp32' asks for it"),
    ],
)
def test_what_is_asked_for_is_done(
    request_: str | None, arguments: dict[str, Any], names: list[str], chosen: str, because: str
) -> None:
    precision = choose_precision(request_, arguments, group(*names))
    assert precision.name == chosen
    assert because in precision.reason
    assert ("slow" in precision.reason) is (chosen == "bf16" and "old CPU" in names)


@pytest.mark.parametrize(
    ("request_", "arguments", "names", "setting", "value", "reason", "fix"),
    [
        (
            "bf16",
            {},
            ["H100", "V100"],
            "precision",
            "bf16",
            "V100-SXM2-16GB of compute capability 7.0 (rank 1)",
            "gives fp16",
        ),
        (None, {"bf16": True}, ["T4"], "bf16", True, "bf16 needs NVIDIA compute capability 8.0", "leave bf16 out"),
        (None, {"bf16": True}, ["MI100"], "bf16", True, "AMD Instinct MI100 of architecture gfx908 (rank 0)", "'auto'"),
        ("auto", {"bf16": True}, ["T4"], "bf16", True, "not so Tesla T4", "precision='auto', which gives fp16"),
        (None, {"bf16_full_eval": True}, ["T4"], "bf16_full_eval", True, "Tesla T4", "leave bf16_full_eval out"),
        ("fp16", {}, ["new CPU"], "precision", "fp16", "would quietly train in fp32", "which gives bf16"),
        (None, {"fp16": True}, ["old CPU"], "fp16", True, "needs a GPU", "precision='auto', which gives fp32"),
        (None, {"fp16": True}, ["TPU"], "fp16", True, "not so v4-8 (rank 0)", "which gives bf16"),
        (None, {"tf32": True}, ["new CPU"], "tf32", True, "TF32 needs NVIDIA compute capability 8.0", "leave tf32 out"),
        (
            None,
            {"tf32": True},
            ["A100", "T4"],
            "tf32",
            True,
            "Tesla T4 of compute capability 7.5 (rank 1)",
            "leave tf32",
        ),
        (None, {"tf32": True}, ["MI300"], "tf32", True, "not so AMD Instinct MI300X", "leave tf32 out"),
        ("fp8", {}, ["H100"], "precision", "fp8", "no such precision", "choose one of auto, bf16"),
    ],
)
def test_what_a_device_cannot_do_is_refused(
    request_: str | None,
    arguments: dict[str, Any],
    names: list[str],
    setting: str,
    value: object,
    reason: str,
    fix: str,
) -> None:
    with pytest.raises(PrecisionError) as caught:
        choose_precision(request_, arguments, group(*names))
    (problem,) = caught.value.problems
    assert (problem.setting, problem.value) == (setting, value)
    assert reason in problem.reason
    assert fix in problem.fix


def test_all_problems_are_in_one_error() -> None:
    with pytest.raises(PrecisionError) as caught:
        choose_precision("fp16", {"bf16": True, "tf32": True}, group("V100"))
    assert [problem.setting for problem in caught.value.problems] == ["precision", "bf16", "tf32"]


@pytest.mark.parametrize(
    ("request_", "arguments", "settings", "text"),
    [
        ("fp32", {"bf16": True}, ["precision"], "the training arguments set bf16=True"),
        ("fp16", {"bf16": True}, ["precision"], "set precision='bf16', or leave bf16 out"),
        ("bf16", {"fp16": True}, ["precision"], "the training arguments set fp16=True"),
        (None, {"bf16": True, "fp16": True}, ["fp16"], "bf16 is set too"),
        (
            "auto",
            {"bf16_full_eval": True, "fp16_full_eval": True},
            ["fp16_full_eval"],
            "leave fp16_full_eval or bf16_full",
        ),
        ("auot", {}, ["precision"], "write 'auto'"),
        ("auto", {"bf16": True}, [], ""),
        ("bf16", {"bf16": True, "fp16": False}, [], ""),
    ],
)
def test_contradictions_need_no_hardware(
    request_: str | None, arguments: dict[str, Any], settings: list[str], text: str
) -> None:
    problems = conflicting_precision(request_, arguments)
    assert [problem.setting for problem in problems] == settings
    assert [problem.value for problem in problems] == [arguments.get(name, request_) for name in settings]
    assert text in "\n".join(str(problem) for problem in problems)


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32"])
def test_arguments_are_what_transformers_takes(name: str) -> None:
    arguments = Precision(name, "").arguments()
    assert arguments == {"bf16": name == "bf16", "fp16": name == "fp16"}
    expected = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}[name]
    assert TrainingArguments("unused", use_cpu=True, **arguments).mixed_precision == expected


def test_this_cpu() -> None:
    facts = device_facts(2, use_cpu=True)
    assert (facts.rank, facts.kind, facts.fp16, facts.tf32) == (2, "cpu", False, False)
    assert facts.name


def test_a_cpu_that_only_linux_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_facts(0, use_cpu=True)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device_facts(0, use_cpu=True).bf16 == before.bf16


@pytest.mark.parametrize(
    ("text", "name", "instruction"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16\n", "AMD EPYC", "avx512_bf16"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", None, "bf16"),
    ],
)
def test_cpuinfo(text: str, name: str | None, instruction: str) -> None:
    found, instructions = read_cpuinfo(text)
    assert found == name if name else found
    assert instruction in instructions
    assert read_cpuinfo("")[1] == []


@pytest.mark.parametrize(("hip", "kind", "bf16"), [(None, "cuda", False), ("6.4", "rocm", True)])
def test_a_gpu_is_read_through_torch_cuda(
    monkeypatch: pytest.MonkeyPatch, hip: str | None, kind: str, bf16: bool
) -> None:
    properties = SimpleNamespace(name="a GPU", major=7, minor=5, gcnArchName="gfx90a:xnack-")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {1: properties}.__getitem__)
    monkeypatch.setattr(torch.version, "hip", hip)
    facts = device_facts(0, use_cpu=False)
    assert (facts.kind, facts.name, facts.bf16) == (kind, "a GPU", bf16)
    assert device_facts(0, use_cpu=True).kind == "cpu"


def test_another_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    facts = device_facts(0, use_cpu=False)
    assert (facts.kind, facts.fp16, facts.tf32) == ("xpu", True, False)


@pytest.mark.parametrize(("device_type", "kind"), [("TPU", "tpu"), ("CPU", "cpu")])
def test_a_tpu_is_found_through_torch_xla(monkeypatch: pytest.MonkeyPatch, device_type: str, kind: str) -> None:
    package, runtime = ModuleType("torch_xla"), ModuleType("torch_xla.runtime")
    vars(runtime)["device_type"] = lambda: device_type
    vars(package).update(runtime=runtime, __spec__=SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    monkeypatch.setitem(sys.modules, "torch_xla", package)
    monkeypatch.setitem(sys.modules, "torch_xla.runtime", runtime)
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5p-8")
    facts = device_facts(0, use_cpu=False)
    assert (facts.kind, facts.name == "v5p-8") == (kind, kind == "tpu")
    require_tpu_software()


def test_a_tpu_without_torch_xla_is_refused() -> None:
    with pytest.raises(ResourcesError) as caught:
        require_tpu_software()
    assert "scaling_config.use_tpu = True" in str(caught.value)
    assert "install torch_xla[tpu]" in str(caught.value)


def test_the_driver_decides_without_importing_torch() -> None:
    code = "import sys, raytrainer.precision; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
