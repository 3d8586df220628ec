"""What a benchmark concludes of its figures: spread, ratios, verdicts, exit status, and the file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

# No package: the benchmarks' files find each other beside the one that runs.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import table
from figures import Goal, conclude, ratios, spread


def test_spread_is_median_least_and_most() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == {"median": 2.5, "from": 1.0, "to": 10.0}


def test_ratios_are_taken_round_by_round() -> None:
    # The second round was slow for both: the ratio of the medians would be 1.5.
    assert ratios([10.0, 40.0, 12.0], [10.0, 40.0, 8.0]) == {"median": 1.0, "from": 1.0, "to": 1.5}


@pytest.mark.parametrize(
    ("measured", "limit", "at_least", "reached"),
    [(1.0, 1.0, False, True), (1.1, 1.0, False, False), (0.98, 0.98, True, True), (0.97, 0.98, True, False)],
)
def test_a_goal_is_reached_on_its_side_of_the_limit(
    measured: float, limit: float, at_least: bool, reached: bool
) -> None:
    goal = Goal("figure", measured, limit, at_least)
    assert goal.reached is reached
    assert ("MISSED" in str(goal)) is not reached


@pytest.mark.parametrize(("measured", "status"), [(1.0, False), (3.0, True)])
def test_the_program_ends_by_its_goals_and_leaves_everything(measured: float, status: bool, tmp_path: Path) -> None:
    file = tmp_path / "made" / "told.json"
    goals = [Goal("one", 1.0, 2.0), Goal("other", measured, 2.0)]
    with pytest.raises(SystemExit) as ended:
        conclude("bench", {"a": 1}, goals, {"cores": 2}, file)
    assert ended.value.code is status
    told = json.loads(file.read_text())
    assert told["results"] == {"a": 1} and told["machine"] == {"cores": 2}
    assert [goal["reached"] for goal in told["goals"]] == [True, not status]
    assert {"python", "torch", "transformers", "ray"} <= set(told["versions"])


def test_the_table_has_a_row_for_every_goal_and_for_what_has_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = {"cores": 2}
    for name, limit in (("one", 2.0), ("two", 0.5)):
        with pytest.raises(SystemExit):
            conclude(name, {}, [Goal(f"figure of {name}", 1.0, limit)], begun, tmp_path / f"{name}.json")
    capsys.readouterr()

    def rows(*names: str) -> tuple[object, list[str]]:
        monkeypatch.setattr(sys, "argv", ["table.py", str(tmp_path), *names])
        with pytest.raises(SystemExit) as end:
            table.main()
        lines = capsys.readouterr().out.splitlines()
        return end.value.code, [line for line in lines if "figure of" in line or "no figures" in line]

    status, lines = rows("one", "two")
    assert status is False, "a goal that is missed is no error"
    assert "reached" in lines[0] and "MISSED" in lines[1] and len(lines) == 2
    status, lines = rows("one", "three")
    assert status is True
    assert "reached" in lines[0] and "three" in lines[1] and "no figures" in lines[1] and len(lines) == 2
