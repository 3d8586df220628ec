"""What all tests share: one Ray cluster a session, and an environment in which figures repeat."""

from __future__ import annotations

import os
import re
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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray of this session's own, with four CPU slots whatever the machine has."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False)
    yield
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


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what libraries write into the home folder (Ray's token, caches) out of the user's."""
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    if before is not None:
        os.environ["HOME"] = before
