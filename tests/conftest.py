"""What all tests share: one Ray cluster a session, and an environment in which figures repeat."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.ray.faults import Trained

# Before anything imports torch: the number of threads changes the order of sums, and so the last bits.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# For the S3 server of the tests; workers inherit them.
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true")

# How long an example takes tells of the machine's other work; a test's folder may serve all its examples.
_UNHURRIED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("unhurried", deadline=None, suppress_health_check=_UNHURRIED)
settings.load_profile("unhurried")


# Search algorithms whose packages are no part of the lock: they bring many others, or have to be compiled.
_NOT_LOCKED = {"bohb": "hpbandster", "ax": "ax"}


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    """Skip a test whose name in brackets has a search algorithm in it that is not installed."""
    words = re.findall(r"\w+", request.node.name.partition("[")[2])
    for name, package in _NOT_LOCKED.items():
        if name in words:
            pytest.importorskip(package, reason=f"pip install 'raytrainer[{name}]'")


# Whether a session fails for what stays behind it. Not by itself yet: tests/e2e leaves nothing; tests/ray, as process 1
# of a namespace, left one idle process of Ray's; both together left places held, by which test is to be found.
_LOOKS_FOR_LEFTOVERS = os.environ.get("RAYTRAINER_LEFTOVERS") == "1"


@pytest.fixture(scope="session")
def ray_cluster(_nothing_stays: None) -> Iterator[None]:
    """A Ray of this session's own, with four CPU slots whatever the machine has; in the end nobody holds any."""
    import ray

    from raytrainer.staying import let_go
    from tests.ray.faults import nothing_is_held
    from tests.waiting import until

    ray.init(address="local", num_cpus=4, include_dashboard=False)
    yield
    let_go()
    try:
        if _LOOKS_FOR_LEFTOVERS:
            until(nothing_is_held, "all places, and no placement group")
    finally:
        ray.shutdown()


@pytest.fixture(scope="session")
def address(ray_cluster: None) -> str:
    """The address of the session's Ray, for programs of their own."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture(scope="session")
def undisturbed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the training that every test of faults has in common, as it is where nothing goes wrong."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="session")
def undisturbed(undisturbed_folder: Path, ray_cluster: None) -> Trained:
    """What that training leaves."""
    from tests.ray.faults import Trained, faulty_trainer

    trainer = faulty_trainer(undisturbed_folder, [])
    trainer.train()
    return Trained.of(trainer)


# What Python and libraries keep in the home folder: Ray's token, caches, what was typed.
_OF_LIBRARIES = {".ray", ".cache", ".config", ".python_history"}


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what libraries write into the home folder out of the user's; nobody else writes into it."""
    before = os.environ.get("HOME")
    home = tmp_path_factory.mktemp("home")
    os.environ["HOME"] = str(home)
    yield
    if before is not None:
        os.environ["HOME"] = before
    if _LOOKS_FOR_LEFTOVERS:
        assert {path.name for path in home.iterdir()} <= _OF_LIBRARIES


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Fail where a process stays that a test has started, or one below it; they are known by their environment."""
    from tests.leftovers import MARK, left

    os.environ[MARK] = uuid.uuid4().hex
    yield
    mark = os.environ.pop(MARK)
    if _LOOKS_FOR_LEFTOVERS:
        stay = left(mark)
        assert not stay, f"processes that the tests have left: {stay}"
