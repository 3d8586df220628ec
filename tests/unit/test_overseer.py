"""What the driver keeps of checkpoints while trials go on from each other."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raytrainer.checkpoints import Store
from raytrainer.sweep.budget import Budget
from raytrainer.sweep.overseer import Overseer
from raytrainer.sweep.records import End, Evaluation, SweepRecord, TrialRecord
from raytrainer.sweep.records import Trial as SweptTrial
from raytrainer.sweep.standings import Standings
from raytrainer.sweep.trial import LAST
from raytrainer.sweep.view import View


@dataclass
class TuneTrial:
    """What the driver looks at of one of Ray Tune's trials."""

    folder: Path
    number: int
    checkpoint: Any = None
    over: bool = False
    error_file: None = None

    def __post_init__(self) -> None:
        self.config = {"training.learning_rate": self.number / 1000}
        self.run_metadata = SimpleNamespace()
        self.storage = SimpleNamespace(trial_fs_path=str(self.folder / "trials" / f"{self.number:05d}"))

    def is_finished(self) -> bool:
        return self.over

    def saved(self, step: int, count: int) -> Any:
        """Write a checkpoint, and Ray Tune's that points to it."""
        own = Path(self.storage.trial_fs_path)
        place = own / "checkpoints" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        pointer = own / f"checkpoint_{count:06d}"
        pointer.mkdir()
        (pointer / "pointer.json").write_text(json.dumps({"number": self.number, "step": step, "address": str(place)}))
        self.checkpoint = SimpleNamespace(path=str(pointer))
        return self.checkpoint


class Sweep:
    """A driver, and its trials as Ray Tune has them."""

    def __init__(self, folder: Path, stream: io.StringIO | None = None, keep: int = 0) -> None:
        self.folder, self.lent = folder, set[str]()
        self.trials = [TuneTrial(folder, number) for number in (1, 2)]
        self.standings = standings = Standings("min", "last", keep)
        self.budget = budget = Budget()
        self.view = View("eval_loss", 2, standings.best, stream=stream or io.StringIO())
        self.overseer = Overseer(
            *(Store(str(folder)), "eval_loss", standings, budget, self.view, dict, "pbt", lambda values: 0.0, False),
            lent=lambda: self.lent,
        )

    def starts(self, number: int) -> None:
        trial: Any = self.trials[number - 1]
        self.overseer.on_trial_start(0, [], trial)

    def reaches(self, number: int, step: int, count: int) -> None:
        trial: Any = self.trials[number - 1]
        result = {"step": step, "max_steps": 24, "seconds": 1.0, "eval_loss": 1.0}
        self.overseer.on_trial_result(0, self.trials, trial, result)
        self.overseer.on_checkpoint(0, self.trials, trial, trial.saved(step, count))
        self.turn()

    def ends(self, number: int) -> None:
        trial: Any = self.trials[number - 1]
        trial.over = True
        self.overseer.on_trial_complete(0, self.trials, trial)
        self.turn()

    def turn(self) -> None:
        self.overseer.on_step_end(0, self.trials)

    def left(self, wanted: list[str], number: int = 1) -> list[str]:
        """Return a trial's checkpoints once they are those, or after a while."""
        folder, until = self.folder / "trials" / f"{number:05d}" / "checkpoints", time.monotonic() + 5
        while (found := sorted(path.name for path in folder.iterdir())) != wanted and time.monotonic() < until:
            time.sleep(0.01)
        return found


def test_what_a_waiting_trial_goes_on_from_stays_until_it_has_its_own(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    donor, clone = sweep.trials
    sweep.reaches(1, 8, 0)
    clone.checkpoint = donor.checkpoint
    # The donor goes on, and ends before there is room for the clone.
    for count, step in enumerate((16, 20, 24), 1):
        sweep.reaches(1, step, count)
    sweep.ends(1)
    assert sweep.left(["checkpoint-8"]) == ["checkpoint-8"]
    sweep.reaches(2, 16, 0)
    assert sweep.left([]) == []
    sweep.ends(2)
    sweep.overseer.finish("stopped", None)


def test_what_the_scheduler_may_yet_give_away_stays(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.reaches(1, 8, 0)
    sweep.lent = {sweep.trials[0].checkpoint.path}
    for count, step in enumerate((16, 20, 24), 1):
        sweep.reaches(1, step, count)
    assert "checkpoint-8" in sweep.left(["checkpoint-20", "checkpoint-24", "checkpoint-8"])
    sweep.lent = set()
    sweep.turn()
    assert sweep.left(["checkpoint-20", "checkpoint-24"]) == ["checkpoint-20", "checkpoint-24"]


def test_trials_that_come_later_are_looked_after_too_and_those_that_ended_no_more(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.reaches(1, 8, 0)
    sweep.ends(1)
    assert sweep.left([]) == []
    third = TuneTrial(tmp_path, 3)
    sweep.trials.append(third)
    for count, step in enumerate((8, 16, 20, 24)):
        sweep.reaches(3, step, count)
        if step == 8:
            waits = TuneTrial(tmp_path, 4, third.checkpoint)
            sweep.trials.append(waits)
    assert sweep.left(["checkpoint-20", "checkpoint-24", "checkpoint-8"], 3)[-1] == "checkpoint-8"
    waits.over = True
    sweep.turn()
    assert sweep.left(["checkpoint-20", "checkpoint-24"], 3) == ["checkpoint-20", "checkpoint-24"]
    sweep.overseer.finish("stopped", None)


def test_the_line_counts_what_runs_and_what_has_ended(tmp_path: Path) -> None:
    stream = io.StringIO()
    sweep = Sweep(tmp_path, stream)
    for number in (1, 2):
        sweep.starts(number)
    sweep.reaches(1, 8, 0)
    assert "0 of 2 trials, 2 running" in stream.getvalue()
    sweep.ends(1)
    sweep.overseer.finish("stopped", "time")
    assert sweep.view.over == 2 and "0 running" in sweep.view._line()


def test_a_training_that_ends_by_itself_before_its_last_step_is_asked_for_its_checkpoint(tmp_path: Path) -> None:
    """Ray Tune tells no callback of the end itself: it comes without an evaluation."""
    sweep = Sweep(tmp_path, keep=1)
    trial: Any = sweep.trials[0]
    told = {"step": 8, "max_steps": 24, "seconds": 1.0, "eval_loss": 1.0}
    for last in (False, True):
        result = {**told, LAST: last}
        sweep.overseer.on_trial_result(0, sweep.trials, trial, result)
        assert ("should_checkpoint" in result) is last
    assert sweep.standings.best() == 1
    sweep.ends(1)
    assert sweep.budget.without_better == 0


def test_a_sweep_that_goes_on_knows_how_many_were_no_better_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    def trial(number: int, loss: float, time: float, state: str = "finished") -> SweptTrial:
        history = (Evaluation(8, 1.0, time, 1.0, {"eval_loss": loss}),)
        return SweptTrial(TrialRecord(str(number), number, "random", max_steps=8, history=history), End(state))

    sweep = Sweep(tmp_path)
    trials = [trial(1, 0.5, 40.0), trial(2, 0.4, 10.0), trial(3, 0.3, 20.0), trial(4, 0.6, 30.0), trial(5, 0.1, 50.0)]
    trials[4] = trial(5, 0.1, 50.0, "interrupted")
    sweep.overseer.take_up(trials, SweepRecord("sweep", ["eval_loss"], ["min"]))
    assert sweep.budget.without_better == 2
