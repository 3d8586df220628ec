"""Every config that we show or ship is one that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raytrainer.config.loading import load_config
from raytrainer.config.schema import TASKS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*.yaml"))


def test_the_configs_in_the_readme(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        load_config(str(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example(path: Path) -> None:
    load_config(str(path))


def test_every_task_has_an_example() -> None:
    assert {load_config(str(path)).config.task for path in EXAMPLES} == set(TASKS)
