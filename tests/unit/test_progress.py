from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from raytrainer.events import Began, Logged, Note, Phase, Saved
from raytrainer.progress import Progress
from raytrainer.progress_view import duration, number


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        """The rows as they were drawn, without colours and cursor movements."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [row.strip() for row in re.split(r"[\r\n]+", text) if row.strip()]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plain(clock: Clock) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(stream, clock=clock), stream


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Give the process a terminal; called by a test itself, for pytest sets the streams anew after each fixture."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@contextlib.contextmanager
def live_progress(terminal: Terminal, clock: Clock) -> Iterator[Progress]:
    progress = Progress(terminal, clock=clock)
    try:
        yield progress
    finally:
        progress.close(None)


def began(step: int = 0, max_steps: int = 600, world_size: int = 2) -> Began:
    return Began(step=step, max_steps=max_steps, world_size=world_size, batch_size=64, precision="bf16")


def logged(step: int, metrics: dict[str, float], max_steps: int = 600, rate: float | None = None) -> Logged:
    return Logged(step, max_steps, step / 125 if max_steps else None, metrics, time=1.7e9, samples_per_second=rate)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_training_lines_carry_step_epoch_loss_speed_and_time_left(
    plain: tuple[Progress, io.StringIO], clock: Clock
) -> None:
    progress, stream = plain
    progress.handle(began())
    clock.now += 30
    progress.handle(logged(120, {"loss": 0.41321, "grad_norm": 1.5, "learning_rate": 1e-5}, rate=212.3))
    assert lines(stream)[-1] == "step 120/600  epoch 0.96  loss 0.4132  212 samples/s  ETA 2:00"


def test_a_line_about_training_comes_at_most_once_in_the_interval(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(stream, clock=clock, interval=5.0)
    progress.handle(began())
    for step in range(1, 21):
        clock.now += 1
        progress.handle(logged(step, {"loss": 1.0}))
    shown = [int(line.split("/")[0].removeprefix("step ")) for line in lines(stream) if line.startswith("step")]
    assert shown == [5, 10, 15, 20]


def test_begin_evaluations_notes_and_end_always_print(plain: tuple[Progress, io.StringIO]) -> None:
    progress, stream = plain
    progress.handle(Phase("workers", 18.24))
    progress.handle(Phase("imports", 6.1))
    progress.handle(began())
    progress.handle(logged(100, {"eval_loss": 0.31, "eval_exact_match": 0.87, "eval_runtime": 2.5, "epoch": 0.8}))
    progress.handle(Note("bf16, because the devices can"))
    progress.handle(Note("the loss was too large", warning=True))
    progress.handle(Saved(100, "runs/checkpoint-100", 31_400_000, 1.24, 0.031))
    progress.close(None)
    assert lines(stream) == [
        "training  starting workers",
        "training  step 0/600  2 workers, 64 examples a step  bf16  start-up: workers 18.2 s, imports 6.1 s",
        "step 100/600  eval_loss 0.31  eval_exact_match 0.87",
        "bf16, because the devices can",
        "warning: the loss was too large",
        "saved runs/checkpoint-100  31 MB, 1.2 s in the background, training stood still for 0.03 s",
        "training  done  after 0:00  step 100/600  epoch 0.80",
    ]


def test_an_evaluation_with_a_prefix_of_the_users_own_is_one_too(plain: tuple[Progress, io.StringIO]) -> None:
    progress, stream = plain
    progress.handle(logged(100, {"val_f1": 0.5, "val_runtime": 2.5, "val_samples_per_second": 9.0}))
    assert lines(stream)[-1] == "step 100/600  val_f1 0.5"


def test_a_note_prints_once(plain: tuple[Progress, io.StringIO]) -> None:
    progress, stream = plain
    progress.handle(Note("the same"))
    progress.handle(Note("the same"))
    assert lines(stream).count("the same") == 1


def test_phases_are_kept(plain: tuple[Progress, io.StringIO]) -> None:
    progress, _ = plain
    progress.handle(Phase("imports", 6.1))
    progress.handle(Phase("model", 0.4))
    assert progress.phases == {"imports": 6.1, "model": 0.4}


def test_a_long_start_up_is_told_as_it_goes_on(plain: tuple[Progress, io.StringIO], clock: Clock) -> None:
    progress, stream = plain
    clock.now += 18
    progress.handle(Phase("workers", 18.2))
    assert lines(stream)[-1] == "training  starting (workers 18.2 s)"


def test_an_evaluation_alone_has_no_steps(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(stream, description="evaluation", clock=clock)
    progress.handle(began(max_steps=0, world_size=1))
    progress.handle(logged(0, {"eval_loss": 0.31}, max_steps=0))
    progress.close(None)
    assert lines(stream)[1:] == [
        "evaluation  1 worker, 64 examples a step  bf16",
        "eval_loss 0.31",
        "evaluation  done  after 0:00",
    ]


def test_a_prediction_that_logs_nothing_ends_in_one_line(plain: tuple[Progress, io.StringIO]) -> None:
    progress, stream = plain
    progress.close(None)
    assert lines(stream) == ["training  starting workers", "training  done  after 0:00"]


def test_time_left_counts_from_where_a_resumed_run_began(plain: tuple[Progress, io.StringIO], clock: Clock) -> None:
    progress, stream = plain
    progress.handle(began(step=500))
    clock.now += 10
    progress.handle(logged(550, {"loss": 1.0}))
    assert lines(stream)[1].startswith("training  step 500/600")
    assert lines(stream)[-1].endswith("ETA 0:10")


@pytest.mark.parametrize(
    ("error", "how"), [(KeyboardInterrupt(), "interrupted"), (ValueError("boom"), "failed: ValueError")]
)
def test_the_end_says_how(plain: tuple[Progress, io.StringIO], error: BaseException, how: str) -> None:
    progress, stream = plain
    progress.handle(began())
    progress.close(error)
    progress.close(None)
    assert [line for line in lines(stream) if "after" in line] == [f"training  {how}  after 0:00  step 0/600"]


def test_quiet_shows_warnings_alone(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    progress = Progress(terminal, quiet=True, clock=clock)
    progress.handle(Phase("imports", 6.1))
    progress.handle(began())
    progress.handle(logged(100, {"loss": 1.0}))
    progress.handle(logged(100, {"eval_loss": 1.0}))
    progress.handle(Note("only so that you know"))
    progress.handle(Note("look here", warning=True))
    progress.close(None)
    assert terminal.getvalue() == "warning: look here\n"
    assert progress.phases == {"imports": 6.1}


def test_a_terminal_shows_one_line_that_changes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with live_progress(terminal, clock) as live:
        assert "training  starting workers" in terminal.rows()[-1]
        live.handle(Phase("imports", 6.1))
        assert "training  starting (imports 6.1 s)" in terminal.rows()[-1]
        live.handle(began())
        clock.now += 60
        live.handle(logged(300, {"loss": 0.5}, rate=50.0))
        assert "training  step 300/600  epoch 2.40  loss 0.5  50 samples/s  ETA 1:00" in terminal.rows()[-1]
        assert terminal.rows()[-1].count("step") == 1


def test_the_time_left_counts_down_between_logs(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with live_progress(terminal, clock) as live:
        live.handle(began())
        clock.now += 60
        live.handle(logged(300, {"loss": 0.5}))
        clock.now += 15
        live.handle(Note("whatever makes it draw the line anew"))
        assert "ETA 0:45" in terminal.rows()[-1]
        clock.now += 60
        live.handle(Note("and again, later than expected"))
        assert "ETA 0:00" in terminal.rows()[-1]


def test_what_is_printed_meanwhile_stands_on_lines_of_its_own(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with live_progress(terminal, clock) as live:
        live.handle(began())
        print("(RayTrainWorker pid=7) from a worker")
        print("(RayTrainWorker pid=7) a worker's error", file=sys.stderr)
        print("again")
        live.handle(logged(100, {"eval_loss": 0.31}))
        live.handle(Note("look [here]", warning=True))
    expected = {"(RayTrainWorker pid=7) from a worker", "(RayTrainWorker pid=7) a worker's error", "again"}
    assert expected | {"step 100/600  eval_loss 0.31", "warning: look [here]"} <= set(terminal.rows())


def test_a_log_handler_made_before_keeps_clear_of_the_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("tests.progress")
    logger.addHandler(handler)
    try:
        with live_progress(terminal, clock):
            logger.warning("a log line")
            logger.warning("and one more")
    finally:
        logger.removeHandler(handler)
    assert {"a log line", "and one more"} <= set(terminal.rows())
    assert handler.stream is terminal


def test_a_stream_that_is_no_terminal_is_left_alone(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, piped = on_a_terminal(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", piped)
    with live_progress(terminal, clock):
        print("a result for the next program")
    assert piped.getvalue() == "a result for the next program\n"


def test_the_terminal_is_given_back(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with live_progress(terminal, clock):
        assert sys.stdout is not terminal
    assert sys.stdout is terminal
    assert sys.stderr is terminal
    assert "training  done  after 0:00" in terminal.rows()


def test_a_dumb_terminal_gets_plain_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    Progress(terminal, clock=clock)
    assert terminal.getvalue() == "training  starting workers\n"


@pytest.mark.parametrize(
    ("value", "text"), [(0.41321, "0.4132"), (0.87, "0.87"), (1e-5, "1e-05"), (12345.6, "12346"), (float("nan"), "nan")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (45, "0:45"), (125, "2:05"), (3723, "1:02:03")])
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
