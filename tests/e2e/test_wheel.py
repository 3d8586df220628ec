"""What is installed: the wheel and the sdist, in an environment that has nothing else, away from the repository."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib  # type: ignore[import-not-found]  # since 3.11, which is what runs this; the package is checked for 3.10

import raytrainer
from tests.e2e.words import write_words
from tests.floors import PROJECT

ROOT = PROJECT.parent
EXTRAS = sorted(tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel that is built from it, of a copy without what is left of other builds."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("project")
    for name in ("raytrainer", "tests", "benchmarks", "examples", "cluster", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "out", "data"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_in(built)) as archive:
        names = set(archive.namelist())
        info = f"raytrainer-{raytrainer.__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        assert b"raytrainer = raytrainer.cli:main" in archive.read(f"{info}/entry_points.txt")
    folder = ROOT / "raytrainer"
    kinds = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {name for name in kinds if "__pycache__" not in name}
    assert {name for name in names if not name.startswith(info)} == expected
    assert "raytrainer/py.typed" in expected
    assert metadata["Version"] == raytrainer.__version__
    assert sorted(metadata.get_all("Provides-Extra", [])) == EXTRAS
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_sdist_has_what_a_wheel_is_built_of(built: Path) -> None:
    """``built`` made the wheel of it."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "raytrainer"} <= tops
    assert not {"tests", "benchmarks", "examples", "cluster", "docs"} & tops


class Elsewhere:
    """An environment with the wheel and what it requires, and a folder far from the repository."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self.wheel = folder / "work", wheel
        self.folder.mkdir()
        venv.create(folder / "venv", with_pip=True)
        self.bin = folder / "venv" / "bin"
        # Of the versions of the lock; of torch pip would else take the newest, with gigabytes of CUDA.
        self.constraints = ["-c", str(ROOT / "requirements.lock")]
        self.run("python", "-m", "pip", "install", "-q", *self.constraints, str(wheel))

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the environment, and return what it printed."""
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "RAY_ADDRESS")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment["PATH"] = os.pathsep.join([str(self.bin), environment["PATH"]])
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def elsewhere(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("elsewhere")
    yield Elsewhere(folder, wheel_in(built))
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_works_where_there_is_nothing_but_the_wheel(elsewhere: Elsewhere) -> None:
    where = elsewhere.run("python", "-c", "import raytrainer; print(raytrainer.__file__)")
    assert where.startswith(str(elsewhere.bin.parent))
    version = f"raytrainer {raytrainer.__version__}\n"
    for command in (["raytrainer"], ["python", "-m", "raytrainer"]):
        assert elsewhere.run(*command, "--version") == version
    assert "Usage: raytrainer" in elsewhere.run("python", "-m", "raytrainer", "--help")
    assert "No broken requirements" in elsewhere.run("python", "-m", "pip", "check")
    write_words(elsewhere.folder)
    assert "failed" not in elsewhere.run("raytrainer", "check", "run.yaml")
    elsewhere.run("raytrainer", "train", "run.yaml")
    outcome = json.loads((elsewhere.folder / "runs" / "words" / "outcome.json").read_text())
    assert outcome["metrics"]["test_accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", [*EXTRAS, ",".join(EXTRAS)])
def test_every_extra_resolves(extra: str, elsewhere: Elsewhere) -> None:
    """By pip's resolver, beside what is installed; nothing is."""
    asked = f"raytrainer[{extra}] @ {elsewhere.wheel.as_uri()}"
    assert "Would install" in elsewhere.run("python", "-m", "pip", "install", "--dry-run", asked)
