"""What a benchmark concludes of its figures: spread, ratios, verdicts, exit status, and the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# No package: the benchmarks' files find each other beside the one that runs.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import table
from cpu_time import cpu_seconds, kind
from figures import Goal, conclude, ratios, spread

from tests.waiting import until


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


@pytest.mark.parametrize(
    ("words", "child", "expected"),
    [
        (["ray::RayTrainWorker.execute"], False, "Ray actor RayTrainWorker"),
        (["ray::Relay"], False, "Ray actor Relay"),
        (["ray::DashboardAgent"], False, "Ray: head, raylet, agents, monitors"),
        (["/env/ray/core/src/ray/raylet/raylet", "--port=0"], True, "Ray: head, raylet, agents, monitors"),
        (["python", "-u", "/env/ray/_private/log_monitor.py"], False, "Ray: head, raylet, agents, monitors"),
        (["python", "train.py"], True, "the command itself"),
        (["python", "-u", "train.py"], False, "processes of the command's"),
    ],
)
def test_processes_are_told_by_what_they_do(words: list[str], child: bool, expected: str) -> None:
    assert kind(words, child) == expected


def test_cpu_time_is_that_of_what_a_command_starts_until_the_end_and_no_earlier(tmp_path: Path) -> None:
    burn = "import sys, time\nwhile time.process_time() < 1: pass\nopen(sys.argv[1], 'w').close()\nsys.stdin.read()"
    earlier, begun, done = (tmp_path / name for name in ("earlier", "begun", "done"))

    def start(file: Path, program: str = burn) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE)

    with start(earlier) as one:
        until(earlier.exists)
        below = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}, sys.argv[1]])"
        with cpu_seconds(done.exists) as found, start(begun) as two, start(done, below) as three:
            until(done.exists)
            for each in (two, three):
                each.communicate()
        one.communicate()
    # The command's own second, and its process's; not that of the one before.
    assert found["processes of the command's"] >= 0.9
    assert 0.9 <= found["the command itself"] < 1.9
