"""The page of a sweep: what it holds, what it says where there is nothing to show, and that no text becomes HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.sweep.plots import log_axis
from raytrainer.sweep.records import End
from raytrainer.sweep.report import page
from raytrainer.sweep.results import Results, results_of
from raytrainer.sweep.study_plots import study_plots
from tests.unit import sweep_records
from tests.unit.sweep_records import BATCH, DECAY, FINISHED, HOSTILE, RATE, Made, sweep, trial

NOW = sweep_records.BEGAN + 600


class Page(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    @property
    def figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = json.loads(self.scripts[1], parse_constant=lambda name: pytest.fail(name))
        return figures


def results(made: Made) -> Results:
    return results_of(made.sweep, made.trials)


def opened(made: Made) -> Page:
    return Page(page(results(made), NOW))


EVERY = {
    "asha": {"curves-0", "best-wall-time", "best-hours", "best-steps", "parallel", "importances-0"}
    | {f"slice-0-{i}" for i in range(3)},
    "repeated": {"curves-0", "best-wall-time", "best-hours", "best-steps", "parallel", "slice-0-0"},
    "pbt": {"curves-0", "best-wall-time", "best-hours", "best-steps", "parallel"}
    | {f"{kind}-{i}" for kind in ("slice-0", "schedule") for i in range(3)},
    "several_objectives": {"curves-0", "curves-1", "best-wall-time", "best-hours", "best-steps", "parallel"}
    | {"pareto-1", "importances-0", "importances-1"}
    | {f"slice-{o}-{i}" for o in range(2) for i in range(3)},
    "none_yet": set(),
}


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_plot_that_can_be_made_is_there_and_has_its_place(name: str) -> None:
    found = opened(getattr(sweep_records, name)())
    assert set(found.figures) == EVERY[name]
    places = [attributes["id"] for tag, attributes in found.tags if tag == "div" and attributes.get("class") == "plot"]
    assert sorted(filter(None, places)) == sorted(EVERY[name])
    for figure in found.figures.values():
        assert any(len([y for y in trace["y"] if y is not None]) for trace in figure["data"])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none_yet", "No trial has begun."),
        ("none_yet", "No trial has been evaluated with this metric yet."),
        ("none_yet", "Fewer than two evaluations have the metric."),
        ("none_yet", "No trial has a score."),
        ("repeated", "Only one parameter was varied."),
        ("pbt", "4 trials with a score are too few; at least 10 are needed."),
        ("pbt", "No trial was stopped early."),
        ("pbt", "No trial had a GPU, so trial-hours stand in for GPU-hours."),
        ("asha", "24 of 27 trials were stopped early. They had 2,080 steps left, about 0.147 GPU-hours"),
        ("with_failures", "trial.json cannot be read"),
        ("with_failures", "ValueError: per_device_train_batch_size=0"),
        ("running", "The sweep has not ended, or its driver died: the last evaluation was "),
        ("asha", "Against the base configuration: not measured"),
    ],
)
def test_what_is_missing_says_why(name: str, line: str) -> None:
    assert line in opened(getattr(sweep_records, name)()).text


def test_one_trial_has_curves_and_nothing_to_compare() -> None:
    one = trial(1, {RATE: 1e-3}, [2.0, 1.0], FINISHED)
    found = opened(Made(sweep(), (one,)))
    assert {"curves-0", "best-wall-time"} <= set(found.figures) and "parallel" not in found.figures
    assert found.text.count("Only one trial has a score.") == 3


def test_trials_with_the_same_values_say_so() -> None:
    twins = tuple(trial(i, {RATE: 1e-3}, [2.0, 1.0], FINISHED) for i in (1, 2))
    assert "All trials have the same values." in opened(Made(sweep(), twins)).text


def test_population_based_training_that_changed_nothing_yet_says_so() -> None:
    made = sweep_records.pbt()
    still = tuple(replace(t, record=replace(t.record, changes=())) for t in made.trials)
    assert "No trial has taken over another one's weights yet." in opened(replace(made, trials=still)).text


def test_the_schedule_shows_who_went_on_from_whom() -> None:
    made = sweep_records.pbt()
    figure = opened(made).figures["schedule-0"]
    clones, *lines = figure["data"]
    changes = [(t.record.number, c) for t in made.trials for c in t.record.changes]
    assert len(clones["x"]) == 3 * len(changes) > 0
    for number, change in changes:
        line = next(line for line in lines if line["name"] == f"trial {number}")
        index = line["x"].index(change.step)
        assert line["y"][index] == change.values[RATE]
        assert line["customdata"][index] == f"from trial {change.donor_number}"


def test_the_best_curve_is_the_best_trials() -> None:
    found = results(sweep_records.asha())
    figure = Page(page(found, NOW)).figures["curves-0"]
    best = figure["data"][-1]
    assert found.best is not None and best["name"] == f"best (trial {found.best.number})"
    assert best["x"] == [*range(10, 101, 10), None]
    assert best["y"][:-1] == [e.metrics["eval_loss"] for e in found.best.record.history]
    assert sum(x is not None for trace in figure["data"] for x in trace["x"]) == sum(
        len(r.record.history) for r in found.ranked
    )


def test_a_long_history_is_thinned_and_keeps_its_end() -> None:
    long = trial(1, {RATE: 1e-3}, [1 / i for i in range(1, 5001)], FINISHED)
    (curve,) = opened(Made(sweep(), (long,))).figures["curves-0"]["data"]
    assert len(curve["x"]) <= 203
    assert (curve["x"][-2], curve["y"][-2]) == (50_000, 1 / 5000)


def test_a_few_wild_values_do_not_press_the_others_flat() -> None:
    calm = [trial(i, {RATE: i / 1000}, [1.0 + i / 100] * 10, FINISHED) for i in range(1, 30)]
    wild = trial(30, {RATE: 1.0}, [1e9], FINISHED)
    figure = opened(Made(sweep(), (*calm, wild))).figures["curves-0"]
    assert figure["layout"]["yaxis"]["range"][1] < 3


def test_the_study_knows_what_matters() -> None:
    """The loss of the records hangs on the learning rate above all, and the importances say so."""
    plots = study_plots(results(sweep_records.model_based(trials=60, known=60)))
    figure = plots["importances"][0].figure
    assert figure is not None
    shares = dict(zip(figure["data"][0]["y"], figure["data"][0]["x"], strict=True))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.6


def test_a_slice_has_a_point_for_each_trial_with_its_number() -> None:
    found = results(sweep_records.model_based())
    measured = {r.number: r for r in found.ranked if r.score.measured}
    for index, key in enumerate((RATE, BATCH, DECAY)):
        figure = study_plots(found)["slices"][index].figure
        assert figure is not None
        points = [p for t in figure["data"] for p in zip(t["customdata"], t["x"], t["y"], strict=True)]
        assert sorted(number for number, _, _ in points) == sorted(measured)
        for number, x, y in points:
            assert y == measured[number].score.values[0]
            assert float(x) == measured[number].values[key]


def test_a_parameter_that_only_some_trials_have_is_plotted_for_those() -> None:
    made = sweep_records.model_based()
    half = tuple(
        replace(t, record=replace(t.record, values={**t.record.values, "model.r": i})) if i % 2 else t
        for i, t in enumerate(made.trials)
    )
    plots = study_plots(results(replace(made, trials=half)))
    last = plots["slices"][-1]
    assert last.title == "model.r" and last.figure is not None
    assert len(last.figure["data"][0]["x"]) == 15
    assert plots["parallel"][0].figure is not None


def test_long_names_of_choices_stay_apart() -> None:
    made = sweep_records.model_based(12, 12)
    names = ["organisation/a-model-of-one-kind-base", "organisation/a-model-of-an0ther-kind-base"]
    trials = tuple(
        replace(t, record=replace(t.record, values={"model.name": names[i % 2]})) for i, t in enumerate(made.trials)
    )
    figure = study_plots(results(replace(made, trials=trials)))["slices"][0].figure
    assert figure is not None
    assert len(set(figure["data"][0]["x"])) == 2


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1e-2), (1e-3, 4e-3), (1.1e-3, 1.2e-3), (1e-9, 1e9), (16, 64), (2, 2)])
def test_a_logarithmic_axis_has_a_few_ticks_inside(low: float, high: float) -> None:
    axis = log_axis([low, high])
    assert 1 <= len(axis["tickvals"]) <= 7
    assert all(low * 0.9 <= tick <= high * 1.1 for tick in axis["tickvals"])
    assert len(set(axis["ticktext"])) == len(set(axis["tickvals"]))


# text of the user's


def test_no_text_of_the_users_becomes_html() -> None:
    plain, hostile = opened(sweep_records.with_failures()), opened(sweep_records.hostile())
    kinds = [sorted({tag for tag, _ in found.tags}) for found in (plain, hostile)]
    assert kinds[0] == kinds[1]
    assert [tag for tag, _ in hostile.tags].count("script") == 3
    assert not [tag for tag, attributes in hostile.tags if any(name.startswith("on") for name in attributes)]
    assert hostile.text.count(HOSTILE) > 10
    assert "<" not in hostile.scripts[1]


def test_no_text_of_the_users_becomes_a_tag_in_a_plot() -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [s for entry in value.values() for s in strings(entry)]
        if isinstance(value, list):
            return [s for entry in value for s in strings(entry)]
        return [value] if isinstance(value, str) else []

    made = sweep_records.hostile()
    record = replace(made.sweep, metric=["<a href='javascript:0'>m</a>"])
    renamed = tuple(
        replace(t, record=replace(t.record, history=tuple(
            replace(e, metrics={record.metric[0]: e.metrics["eval_loss"]}) for e in t.record.history)))
        for t in made.trials
    )  # fmt: skip
    shown = strings(opened(Made(record, renamed)).figures)
    assert any("&lt;a href=" in s for s in shown) and any("&lt;/script&gt;" in s for s in shown)
    ours = re.compile(r"<br>|<extra></extra>")
    assert [s for s in shown if "<" in ours.sub("", s)] == []


def test_only_the_pages_own_scripts_may_run_and_nothing_is_fetched() -> None:
    found = opened(sweep_records.hostile())
    (policy,) = [a["content"] or "" for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digests = [base64.b64encode(hashlib.sha256(found.scripts[i].encode()).digest()).decode() for i in (0, 2)]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert not [a for tag, a in found.tags if "src" in a]
    assert [a["href"] for tag, a in found.tags if "href" in a] == ["data:,"]
    assert found.scripts[0].startswith("/**\n* plotly.js")


# the command


def test_the_command_writes_everything_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = sweep_records.asha()
    made.write(Store(str(tmp_path / "dates")))
    assert main(["report", str(tmp_path / "dates")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"page: {tmp_path}/dates/report.html"
    assert "0.4056" in out
    assert (tmp_path / "dates/report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "dates/results.csv").exists() and (tmp_path / "dates/results.json").exists()


def test_a_sweep_whose_driver_died_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = sweep_records.running()
    made.write(Store(str(tmp_path)))
    (tmp_path / "trials/00002/trial.json").write_bytes(b'{"id": "a1')
    (tmp_path / "trials/00004/end.json").write_bytes(b"")
    assert main(["report", f"file://{tmp_path}"]) == 0
    assert "unreadable" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"metric": ["a"]}'])
def test_a_folder_that_is_no_sweep_is_the_users_mistake(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_bytes(content)
    assert main(["report", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    reason = "there is no sweep.json in it" if content is None else "its results cannot be read or written: "
    assert err.startswith(f"raytrainer report: SWEEP = '{tmp_path}': {reason}")
    assert "\n  Instead: the folder " in err
    assert out == ""
    assert not (tmp_path / "report.html").exists()


def without(package: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command where a package cannot be imported."""
    code = f"import sys; sys.modules[{package!r}] = None; from raytrainer.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, "report", str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_optuna_the_page_says_what_is_missing(tmp_path: Path) -> None:
    sweep_records.asha().write(Store(str(tmp_path)))
    done = without("optuna", tmp_path)
    assert done.returncode == 0, done.stderr
    found = Page((tmp_path / "report.html").read_text())
    assert set(found.figures) == {"curves-0", "best-wall-time", "best-hours", "best-steps"}
    assert found.text.count("Optuna is not installed (pip install 'raytrainer[sweep]').") == 3


def test_without_plotly_the_extra_is_named(tmp_path: Path) -> None:
    sweep_records.asha().write(Store(str(tmp_path)))
    done = without("plotly", tmp_path)
    assert done.returncode == 2
    assert "Instead: pip install 'raytrainer[sweep]'" in done.stderr


def test_the_command_imports_no_torch_and_no_ray(tmp_path: Path) -> None:
    sweep_records.asha().write(Store(str(tmp_path)))
    code = f"""
import sys
from raytrainer.cli import main
assert main(["report", {str(tmp_path)!r}]) == 0
slow = {{"torch", "ray", "transformers"}} & set(sys.modules)
assert not slow, slow
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_failed_trial_without_a_word_says_that(tmp_path: Path) -> None:
    silent = trial(1, {RATE: 1e-3}, [], End("failed"))
    assert "nothing is known of the reason" in opened(Made(sweep(), (silent,))).text
