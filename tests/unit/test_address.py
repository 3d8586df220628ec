"""Which address counts, and which ones are refused before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytrainer.address import ADDRESS_VARIABLE, chosen, host_and_port, problems
from raytrainer.cli import main
from tests.e2e.words import write_words


@pytest.mark.parametrize(
    ("given", "variables", "expected"),
    [
        (None, {}, None),
        ("local", {"RAY_ADDRESS": "head:6379"}, None),
        (None, {"RAY_ADDRESS": "local"}, None),
        (None, {"RAY_ADDRESS": ""}, None),
        (None, {"RAY_ADDRESS": "head:6379"}, ("RAY_ADDRESS", "head:6379")),
        ("auto", {"RAY_ADDRESS": "head:6379"}, ("--address", "auto")),
        ("head:1", {"RAY_ADDRESS": "head:6379"}, ("--address", "head:1")),
        ("head:1", {ADDRESS_VARIABLE: "new:2"}, ("raytrainer resume --address", "new:2")),
        ("head:1", {ADDRESS_VARIABLE: "local"}, None),
    ],
)
def test_who_says_it(
    given: str | None, variables: dict[str, str], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", ADDRESS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert chosen(given) == expected


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("head:6379", ("head", 6379)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[fd00::1]:6379", ("fd00::1", 6379)),
        ("head", None),
        ("head:", None),
        (":6379", None),
        ("head:0", None),
        ("head:65536", None),
        ("head:port", None),
        ("fd00::1:6379", None),
        ("auto", None),
    ],
)
def test_the_parts_of_an_address(address: str, parts: tuple[str, int] | None) -> None:
    assert host_and_port(address) == parts


@pytest.mark.parametrize("address", ["auto", "head:6379", "[fd00::1]:6379"])
def test_an_address_that_may_be_joined(address: str) -> None:
    assert not list(problems("--address", address))


REFUSED = {
    "ray://head:10001": ("behind Ray Client", "head:6379", "raytrainer submit --address http://head:8265 ..."),
    "ray://head": ("behind Ray Client", "HOST:6379", "raytrainer submit --address http://HOST:8265 ..."),
    "http://head:8265": ("takes jobs", "head:6379", "raytrainer submit --address http://head:8265 ..."),
    "head": ("no address of a Ray cluster", "HOST:PORT", "auto"),
    "grpc://head:6379": ("no address of a Ray cluster", "HOST:PORT", "auto"),
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_refused_says_what_to_write(address: str) -> None:
    (problem,) = problems("--address", address)
    reason, *fixes = REFUSED[address]
    assert reason in problem.reason
    assert all(fix in problem.fix for fix in fixes)


SWEEP = """
base: run.yaml
search_space: {training.learning_rate: {loguniform: [1.0e-4, 1.0e-2]}}
tune: {metric: eval_loss, mode: min, num_samples: 1}
"""


@pytest.mark.parametrize("command", ["train", "tune", "check", "run"])
def test_every_command_that_runs_something_refuses_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "500")
    write_words(tmp_path, mlflow=None)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "script.py").write_text("raise SystemExit(7)")
    what = {"tune": ["sweep.yaml"], "run": ["--no-mlflow", "script.py"]}.get(command, ["run.yaml"])
    assert main([command, "--address", "ray://head:10001", *what]) == 2
    printed = "".join(capsys.readouterr())
    assert "--address = 'ray://head:10001': a program behind Ray Client" in printed
    assert "head:6379 (what ray start printed) on a machine of the cluster" in printed
    assert not (tmp_path / "runs").exists()
