"""The page of a sweep in a real browser: every plot is drawn, nothing is fetched, nothing goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.sweep.results import results_of
from tests.unit import sweep_records
from tests.unit.sweep_records import HOSTILE, Made

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

# Of each plot the points that plotly drew: markers, and the corners of lines.
DRAWN = """
return Object.fromEntries([...document.querySelectorAll('.plot')].map((plot) => [plot.id, {
  marks: plot.querySelectorAll('.points path, path.js-line').length,
  width: plot.querySelector('svg.main-svg') ? plot.querySelector('svg.main-svg').getBoundingClientRect().width : 0,
  titles: [...plot.querySelectorAll('.xtitle, .ytitle')].map((title) => title.textContent),
  heading: (plot.closest('.plots > div, section').querySelector('h3, h2') || {}).textContent,
}]));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium with its chromedriver on this machine")
    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def opened(browser: webdriver.Chrome, made: Made, folder: Path, width: int = 1200, scheme: str = "light") -> None:
    """Make a sweep's page as the command line does, and open it with the network taken away."""
    made.write(Store(str(folder)))
    assert main(["report", str(folder)]) == 0
    for log in ("browser", "performance"):
        browser.get_log(log)  # of the page before
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    browser.get(f"file://{folder}/report.html")
    done = (
        "return [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.cartesianlayer .trace'))"
    )
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(done))


def requested(browser: webdriver.Chrome) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def drawn(browser: webdriver.Chrome) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = browser.execute_script(DRAWN)
    return found


PAGES: dict[str, dict[str, str]] = {
    "asha": {
        "curves-0": "Learning curves: eval_loss",
        "best-wall-time": "Best so far over wall time",
        "best-hours": "Best so far over GPU-hours",
        "best-steps": "Best so far over optimizer steps",
        "parallel": "Parallel coordinates",
        "importances-0": "Parameter importances",
        "slice-0-0": "training.learning_rate",
        "slice-0-1": "training.per_device_train_batch_size",
        "slice-0-2": "training.weight_decay",
    },
    "several_objectives": {
        "curves-0": "Learning curves: eval_accuracy",
        "curves-1": "Learning curves: eval_samples_per_second",
        "pareto-1": "Pareto front: eval_accuracy (max) and eval_samples_per_second (max)",
        "parallel": "Parallel coordinates",
        "importances-1": "Parameter importances: eval_samples_per_second",
        "slice-1-0": "eval_samples_per_second over training.learning_rate",
    },
    "pbt": {
        "curves-0": "Learning curves: eval_loss",
        "best-hours": "Best so far over trial-hours",
        "schedule-0": "training.learning_rate",
        "schedule-1": "training.per_device_train_batch_size",
    },
    "running": {"curves-0": "Learning curves: eval_loss", "parallel": "Parallel coordinates"},
    "repeated": {"curves-0": "Learning curves: eval_loss", "slice-0-0": "training.learning_rate"},
}


@pytest.mark.parametrize("name", sorted(PAGES))
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_every_plot_is_drawn(name: str, width: int, scheme: str, browser: webdriver.Chrome, tmp_path: Path) -> None:
    made: Made = getattr(sweep_records, name)()
    opened(browser, made, tmp_path, width, scheme)
    plots = drawn(browser)
    for plot, heading in PAGES[name].items():
        assert plots[plot]["heading"] == heading
    for plot, found in plots.items():
        assert found["marks"] >= 1, plot
        assert found["width"] > 200, plot
        assert found["titles"] or plot == "parallel", plot
    trials = len([t for t in made.trials if t.record.history])
    assert plots["curves-0"]["marks"] >= trials
    scored = sum(ranked.score.measured for ranked in results_of(made.sweep, made.trials).ranked)
    assert [found["marks"] for plot, found in plots.items() if plot.startswith("slice-0-")][:1] in ([scored], [])
    assert browser.get_log("browser") == []
    assert requested(browser) == [f"file://{tmp_path}/report.html"]
    # A phone scrolls down and never sideways.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_sweep_that_has_nothing_yet_has_a_page(browser: webdriver.Chrome, tmp_path: Path) -> None:
    opened(browser, sweep_records.none_yet(), tmp_path)
    assert drawn(browser) == {}
    assert "No trial has begun." in browser.find_element(By.TAG_NAME, "main").text
    assert browser.get_log("browser") == []


def test_a_click_on_a_head_sorts_the_table(browser: webdriver.Chrome, tmp_path: Path) -> None:
    opened(browser, sweep_records.with_failures(), tmp_path)
    table = browser.find_element(By.CSS_SELECTOR, "table.sortable")

    def column(index: int) -> list[str]:
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        return [row.find_elements(By.TAG_NAME, "td")[index].text for row in rows]

    heads = table.find_elements(By.CSS_SELECTOR, "thead button")
    names = [head.text for head in heads]
    heads[names.index("trial")].click()
    assert column(1) == [str(number) for number in range(1, 13)]
    heads[names.index("eval_loss")].click()
    losses = column(names.index("eval_loss"))
    assert losses[-2:] == ["-", "-"] and losses[:-2] == sorted(losses[:-2], key=float)
    heads[names.index("eval_loss")].click()
    turned = column(names.index("eval_loss"))
    assert turned == [*reversed(losses[:-2]), "-", "-"]
    assert heads[names.index("eval_loss")].find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"


def test_the_colours_follow_the_readers_scheme(browser: webdriver.Chrome, tmp_path: Path) -> None:
    opened(browser, sweep_records.asha(), tmp_path)

    def colour() -> str:
        script = "return getComputedStyle(document.querySelector('#curves-0 .xtitle')).fill"
        found: str = browser.execute_script(script)
        return found

    light = colour()
    feature = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    WebDriverWait(browser, 30).until(lambda _: colour() != light)
    assert (light, colour()) == ("rgb(24, 33, 43)", "rgb(230, 235, 240)")


def test_text_that_would_run_is_shown(browser: webdriver.Chrome, tmp_path: Path) -> None:
    opened(browser, sweep_records.hostile(), tmp_path)
    assert browser.title == f"{HOSTILE}: sweep"
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith(HOSTILE)
    assert browser.find_elements(By.CSS_SELECTOR, "main img, main script, main a") == []
    assert browser.get_log("browser") == []
    assert requested(browser) == [f"file://{tmp_path}/report.html"]


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Should an escape ever be forgotten, the page's policy is there."""
    opened(browser, sweep_records.asha(), tmp_path)
    page = tmp_path / "report.html"
    planted = f"<main>{HOSTILE.removeprefix('</script>')}<img src='https://example.org/x.png'>"
    page.write_text(page.read_text().replace("<main>", planted, 1))
    browser.get(f"file://{page}")
    assert browser.title == "dates-sweep: sweep"
    assert "Content Security Policy" in "".join(entry["message"] for entry in browser.get_log("browser"))
