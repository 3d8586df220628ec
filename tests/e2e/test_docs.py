"""README and docs are right: every block and command is run, or held against what it is for."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import typer

from raytrainer.cli import app, main
from raytrainer.config.loading import load_config, read
from raytrainer.config.sweep import load_sweep
from raytrainer.config.sweep_base import is_sweep
from raytrainer.errors import UserError
from raytrainer.launch.manifest import manifest
from tests.e2e.pages import PAGES, ROOT, Block, blocks, commands, in_code_style, links

TROUBLE = "docs/troubleshooting.md"

# Commands of raytrainer that are run, by the beginning of their line; all others are parsed, and their configs loaded.
RUN: dict[str, tuple[str, ...]] = {
    "docs/index.md": ("raytrainer ",),
    "docs/from-script.md": ("raytrainer run -n 2", "raytrainer train own.yaml"),
    "docs/configs.md": ("raytrainer schema",),
    "docs/kubernetes.md": ("raytrainer manifest",),
    TROUBLE: ("raytrainer ",),
}

# Commands that cannot run in a test, why, and what is looked at in their place.
NOT_RUN: dict[str, tuple[str, Callable[[list[str]], bool]]] = {
    "make": (
        "a target is a test run or a build of its own",
        lambda words: {each for each in words if "=" not in each} <= targets(),
    ),
    "pip": ("it would change this environment", lambda words: set(extras_in(words)) <= extras()),
    "python": ("a store, or a session of pytest of its own", lambda words: there(words)),
    "mlflow": ("a server that stays", lambda words: known_to_mlflow(words)),
    ".ci/run": ("it runs this test", lambda words: there([".ci/run"])),
    "kubectl": ("there is no Kubernetes", lambda words: words[0] in ("apply", "delete", "get", "logs", "port-forward")),
    "base64": ("of kubectl's", lambda words: True),
    "export": ("of kubectl's", lambda words: True),
    "mkdir": ("of a store's", lambda words: True),
}
# Blocks of Python that cannot run, by a part of them, and the test that does the same.
PYTHON_NOT_RUN = {'mlflow.transformers.load_model("models:/': "tests/ray/test_tracking_contents.py"}

# What the reader's own script has, on the pages that begin with it.
GIVEN = """
import torch
from datasets import Dataset
from ray.train import ScalingConfig
from raytrainer import RayTrainer, RayTrainingArguments
from transformers import BertConfig, BertForSequenceClassification

rows = torch.randint(5, 100, (40, 8), generator=torch.Generator().manual_seed(0))
train = test = Dataset.from_dict({"input_ids": rows.tolist(), "labels": (rows[:, 0] > 50).long().tolist()})
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
model = BertForSequenceClassification(BertConfig(vocab_size=100, **sizes))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder: what README calls a file is one, and the repository's configs are beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("examples", "tune_configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in blocks("README.md"):
        write(block)
    for name in ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "of-the-test")
    return tmp_path


@pytest.fixture
def environment() -> Iterator[None]:
    """What a command sets in this process goes when the page ends."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def write(block: Block) -> None:
    if block.name is not None:
        Path(block.name).write_text(block.text)


# Configs


def load(path: str, settings: list[str] | None = None) -> None:
    """Do what a command does before it starts anything."""
    if is_sweep(read(path, settings or [])[0]):
        load_sweep(path, settings or [])
    else:
        load_config(path, settings or [])


def written(block: Block) -> str:
    """Write a block of YAML as a file that stands by itself: a part of a config gets the rest from README's."""
    text, keys = block.text, set(re.findall(r"^(\w+):", block.text, re.MULTILINE))
    if not {"task", "trainer", "script", "base"} & keys:
        text += "base: dates.yaml\n"
    path = block.name or "run.yaml"
    Path(path).write_text(text)
    return path


CONFIGS = [block for page in PAGES for block in blocks(page) if block.language == "yaml" and block.page != TROUBLE]


@pytest.mark.parametrize("block", CONFIGS, ids=lambda block: block.place)
def test_a_config_loads(block: Block, folder: Path) -> None:
    for other in blocks(block.page):
        write(other)
    load(written(block))


# Commands


def command_line() -> Any:
    return typer.main.get_command(app)


def parsed(words: list[str]) -> None:
    """Have the command line parse a command, and do nothing."""
    group = command_line()
    context = group.make_context("raytrainer", list(words))
    _, command, rest = group.resolve_command(context, list(words))
    with command.make_context(words[0], rest, parent=context) as made:
        config, settings = made.params.get("config"), made.params.get("settings") or []
    if words[0] == "submit" and made.params["what"][0].endswith(".yaml"):
        config, *settings = made.params["what"]
    if words[0] == "manifest" or (words[0] == "submit" and made.params["kube"]):
        manifest(config, settings)
    elif config is not None and not config.startswith("runs/"):  # what is there is a run's
        load(config, settings)


def looked_at(block: Block, words: list[str]) -> None:
    """Hold a command that is not run against what it is for."""
    program = "python" if words[0].endswith("/python") else words[0]
    if program == "raytrainer":
        parsed(words[1:])
        return
    assert program in NOT_RUN, f"{block.place}: nothing says how {program} is tested"
    assert NOT_RUN[program][1](words[1:]), f"{block.place}: {' '.join(words)}"


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    _, _, section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")
    return set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))


def extras_in(words: list[str]) -> list[str]:
    named = re.findall(r"(?:raytrainer|\.)\[([\w,]+)\]", " ".join(words))
    return [extra for found in named for extra in found.split(",")]


def there(words: list[str]) -> bool:
    if words[0] == "-c":
        return compile(words[1], "-c", "exec") is not None
    paths = [word for word in words if "/" in word or word.endswith(".py")]
    return bool(paths) and all((ROOT / path).exists() for path in paths)


def known_to_mlflow(words: list[str]) -> bool:
    from mlflow.cli import cli

    with cli.make_context("mlflow", list(words)) as context:
        command = cli.get_command(context, words[0])  # type: ignore[no-untyped-call]  # mlflow gives it no types
        return bool(command and command.make_context(words[0], words[1:], parent=context))


BASH = [block for page in PAGES for block in blocks(page) if block.language == "bash"]


@pytest.mark.parametrize("block", BASH, ids=lambda block: block.place)
def test_commands_are_ones(block: Block, folder: Path) -> None:
    for other in blocks(block.page):
        write(other)
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    for words in commands(block.text):
        if block.page != TROUBLE:
            looked_at(block, words)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_a_line_are_ones(page: str) -> None:
    for text in in_code_style(page):
        program, *words = text.split()
        if program == "make":
            assert {each for each in words if "=" not in each} <= targets(), text
        elif program == "raytrainer" and words and words[0] not in ("...", "--help"):
            group = command_line()
            _, command, rest = group.resolve_command(group.make_context("raytrainer", list(words)), list(words))
            known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
            assert {word for word in rest if re.match(r"-\D", word)} <= known, text


# Pages, from top to bottom


def compiled(block: Block) -> CodeType:
    """Compile a block of Python; errors have the page's lines."""
    return compile("\n" * (block.line - 1) + block.python, str(ROOT / block.page), "exec")


PYTHON = [block for page in PAGES for block in blocks(page) if block.language in ("python", "diff")]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_is_python(block: Block) -> None:
    """Those of pages that are slow to play, too."""
    assert compiled(block)


class Reader:
    """Does what a page says, block after block.

    Args:
        page: which.
        capsys: pytest's, for what commands say.
    """

    def __init__(self, page: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.page, self._capsys = page, capsys
        self.names: dict[str, Any] = {"__name__": "__main__"}
        exec(GIVEN, self.names)

    def run(self, block: Block, status: int = 0) -> str:
        """Run the commands of a block that are run in a test; return what they said."""
        said = ""
        for words in commands(block.text):
            if " ".join(words).startswith(RUN.get(self.page, ("nothing",))):
                self._capsys.readouterr()
                ended = main(words[1:])
                out, err = self._capsys.readouterr()
                assert ended == status, f"{block.place}: {out}{err}"
                said += out + err
        return said

    def execute(self, block: Block) -> None:
        """Execute a block of Python where the page's blocks before it were."""
        code = compiled(block)
        elsewhere = [part for part in PYTHON_NOT_RUN if part in block.text]
        if block.name is None and not elsewhere:
            exec(code, self.names)
        assert all(part in (ROOT / PYTHON_NOT_RUN[part]).read_text() for part in elsewhere)

    def do(self, block: Block) -> None:
        match block.language:
            case "bash":
                self.run(block)
            case "python" | "diff":
                self.execute(block)


PLAYED = sorted({*(block.page for block in PYTHON), *RUN} - {TROUBLE})
# Over half a minute.
SLOW = ("docs/index.md", "docs/from-script.md")


@pytest.mark.ray
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page in SLOW else ()) for page in PLAYED]
)
@pytest.mark.usefixtures("environment", "ray_cluster")
def test_a_page_from_top_to_bottom(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = blocks(page)
    for block in everything:
        write(block)
    reader = Reader(page, capsys)
    for block in everything:
        reader.do(block)


# Errors


def messages() -> Iterator[tuple[Block | None, Block]]:
    """Yield the messages of the page, each with the block before it that is the mistake, if there is one."""
    mistake = None
    for block in blocks(TROUBLE):
        if block.language == "text":
            yield mistake, block
        mistake = None if block.language == "text" else block


MESSAGES = list(messages())


def said(mistake: Block, capsys: pytest.CaptureFixture[str]) -> str:
    """Make a mistake, and return what is said of it."""
    reader = Reader(TROUBLE, capsys)
    if mistake.language == "bash":
        return reader.run(mistake, status=2)
    with pytest.raises(UserError) as error:
        load(written(mistake)) if mistake.language == "yaml" else reader.execute(mistake)
    return str(error.value)


@pytest.mark.ray
@pytest.mark.usefixtures("environment", "ray_cluster", "folder")
@pytest.mark.parametrize(
    ("mistake", "message"), [each for each in MESSAGES if each[0] is not None], ids=lambda block: block.place
)
def test_an_error_is_said(mistake: Block, message: Block, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [re.escape(part) for part in message.text.strip().split("...")]
    assert re.search(".*".join(parts), said(mistake, capsys), re.DOTALL), said(mistake, capsys)


@pytest.fixture(scope="module")
def source() -> str:
    """Every text in raytrainer's source; of templates what stays the same."""
    nodes = [node for path in (ROOT / "raytrainer").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return "\0".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.parametrize(
    "message", [message for mistake, message in MESSAGES if mistake is None], ids=lambda b: b.place
)
def test_an_error_is_in_the_source(message: Block, source: str) -> None:
    first, *rest = message.text.strip().splitlines()
    # Without setting and value, which are of the reader's own.
    reason = first.partition(" = ")[2].partition(": ")[2] if " = " in first else first
    lines = (reason, *(line.removeprefix("  Instead: ") for line in rest))
    # Between these the code puts something in.
    parts = [part.strip(" .") for line in lines for part in re.split(r"\.\.\.|; |: ", line)]
    assert [part for part in parts if part not in source] == []
    assert max(len(part) for part in parts) > 12, "nothing of it is told"


# What else the pages name


def test_the_settings_are_those_of_the_schema() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import settings
    finally:
        sys.path.pop(0)
    assert settings.PAGE.read_text() == settings.page(), "python docs/settings.py"


PATH = re.compile(
    r"raytrainer/[\w/-]*(\.\w+|/)|(tests|docs|examples|cluster|tune_configs|benchmarks|\.ci)/[\w./-]*"
)  # raytrainer/samples_per_second is a metric


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page: str) -> None:
    named = {text for text in in_code_style(page) if PATH.fullmatch(text)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    if page == "README.md":  # the links of the others are looked at by make docs
        assert [link for link in links(page) if "://" not in link and not (ROOT / link.split("#")[0]).exists()] == []
    assert {block.language for block in blocks(page)} <= {"python", "diff", "yaml", "bash", "text"}


def test_figures_are_those_that_were_measured() -> None:
    table = (ROOT / "README.md").read_text().partition("## How it compares")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| ([\d.,]*\d) \| ([\d.,]*\d)", table, re.MULTILINE)
    measured = (ROOT / "docs/benchmarks.md").read_text()
    assert rows
    assert [number for row in rows for number in row if not re.search(rf"(?<![\d.,]){number}(?![\d])", measured)] == []
