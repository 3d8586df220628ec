"""What is wrong with a search or a scheduler is said at once: where, what was seen, why, what instead."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from raytrainer.config.loading import read
from raytrainer.errors import ConfigError
from raytrainer.sweep.schedulers import OPTIONS, scheduler
from raytrainer.sweep.searchers import searcher
from raytrainer.sweep.space import Space
from tests.unit.search_rows import ROWS, Row
from tests.unit.sweep_stage import tune


def build(row: Row) -> None:
    space, settings = Space.of(row.space), tune(**row.tune)
    searcher(settings, space, {}, scheduler(settings, space, row.max_t))


@pytest.mark.parametrize("name", ROWS)
def test_one_mistake_is_one_problem(name: str) -> None:
    row = ROWS[name]
    with pytest.raises(ConfigError) as error:
        build(row)
    assert len(error.value.problems) == 1, str(error.value)
    problem = error.value.problems[0]
    assert problem.setting == row.setting
    assert row.reason in problem.reason
    assert row.fix in problem.fix


def test_several_mistakes_are_told_together() -> None:
    options = {"max_t": "long", "bracket": 1, "reduction_factor": 0, "metric": "loss"}
    with pytest.raises(ConfigError) as error:
        scheduler(tune(scheduler={"asha": options}), Space.of({}), 100)
    found = {problem.setting.rpartition(".")[2] for problem in error.value.problems}
    assert found == set(options)


def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tune:\n  scheduler:\n    asha:\n      grace_periud: 2\n      max_t: long\n")
    root, _, _ = read(str(file))
    settings = tune(scheduler=root.plain()["tune"]["scheduler"])
    with pytest.raises(ConfigError) as error:
        scheduler(settings, Space.of({}), 100, root)
    assert {problem.setting for problem in error.value.problems} == {
        f"tune.scheduler.asha.grace_periud ({file}:4:7)",
        f"tune.scheduler.asha.max_t ({file}:5:7)",
    }


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "fifo"])
def test_every_option_of_the_installed_constructor_is_known_or_refused(name: str) -> None:
    options = OPTIONS[name]
    parameters = set(inspect.signature(options.takes).parameters)
    assert parameters <= options.known().keys() | options.ours.keys()
    assert options.known().keys() <= parameters, "none that the constructor does not take"
