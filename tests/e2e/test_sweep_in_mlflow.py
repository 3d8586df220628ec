"""MLflow's own page of a sweep, in a real browser: the sweep's run, and its trials under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrainer.config.sweep import load_sweep
from raytrainer.launch.tune import tune
from tests.ray.test_sweep_tracking import tree, uri, write_sweep

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.test_report import browser

__all__ = ["browser", "uri"]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def shows(browser: webdriver.Chrome, address: str, *texts: str) -> None:
    """Open a page, and wait until all of these are on it."""
    browser.get(address)

    def are_there(driver: webdriver.Chrome) -> bool:
        shown = driver.find_element(By.TAG_NAME, "body").text
        return all(text in shown for text in texts)

    WebDriverWait(browser, 90, ignored_exceptions=[StaleElementReferenceException]).until(are_there)


def test_the_page_of_a_sweep_shows_parent_and_children(tmp_path: Path, uri: str, browser: webdriver.Chrome) -> None:
    tune(load_sweep(write_sweep(tmp_path, uri, [1e-2, 1e-3])))
    parent, children = tree(uri, tmp_path.name)
    experiment = f"{uri}/#/experiments/{parent.info.experiment_id}"
    # The table of runs, and the sweep's own page, which names the runs under it.
    shows(browser, f"{experiment}/runs", str(parent.info.run_name))
    shows(browser, f"{experiment}/runs/{parent.info.run_id}", "Child runs", *children)
    child = next(iter(children.values()))
    shows(browser, f"{experiment}/runs/{child.info.run_id}", "Parent run", str(parent.info.run_name))
