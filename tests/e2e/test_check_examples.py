"""raytrainer check passes on every config in examples/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raytrainer.cli import main
from tests.e2e.words import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder in which the examples' paths mean what they say, with all their data."""
    folder = tmp_path_factory.mktemp("examples")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import data; print(*data.DATASETS)"
    names = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "examples")], capture_output=True, text=True, check=True
    )
    for name in names.stdout.split():
        command = [
            sys.executable,
            str(ROOT / "examples" / "data.py"),
            name,
            "--folder",
            str(folder / "examples" / "data"),
        ]
        subprocess.run(command, check=True)
    return folder


CONFIGS = [
    pytest.param(path, id=path.stem, marks=[] if path.stem == "seq2seq" else pytest.mark.slow)
    for path in sorted(ROOT.glob("examples/*.yaml"))
]


@pytest.mark.parametrize("config", CONFIGS)
def test_check_passes(
    config: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["check", str(config)]) == 0
    printed = capsys.readouterr().out
    assert "failed" not in printed
    assert "optimizer steps" in printed
