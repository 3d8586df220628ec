"""Inside a Ray Train worker and under torchrun, the classes are transformers' own."""

from __future__ import annotations

import gc
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tests.torchrun import torchrun

pytestmark = pytest.mark.ray

SCRIPT = """
import json, sys
from pathlib import Path
from ray.train import ScalingConfig
from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.driver import DriverSide
from tests.ray.recipes import COMMON, classify_words

def main(folder):
    arguments = RayTrainingArguments(folder, use_cpu=True, **{**COMMON, "max_steps": 2})
    trainer = RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=7), **classify_words())
    trainer.train()
    found = [trainer.args.world_size, isinstance(trainer, DriverSide), trainer.state.global_step, trainer.is_in_train]
    if trainer.is_world_process_zero():
        Path(folder, "found.json").write_text(json.dumps(found))

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_under_torchrun(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun(script, str(tmp_path), env={"PYTHONPATH": str(Path(__file__).parents[2])})
    assert json.loads((tmp_path / "found.json").read_text()) == [2, False, 2, False]


def loop(config: dict[str, Any]) -> None:
    space: dict[str, Any] = {"__name__": "script"}
    exec(SCRIPT, space)
    space["main"](config["folder"])


@pytest.fixture
def handler_of_ctrl_c() -> Iterator[None]:
    """Put back the handler that ``TorchTrainer.fit`` replaces: Ray's holds its controller, and that a CPU, for good."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
    gc.collect()


@pytest.mark.usefixtures("handler_of_ctrl_c")
def test_inside_a_ray_train_worker_of_the_users_own(tmp_path: Path, ray_cluster: None) -> None:
    TorchTrainer(
        loop,
        train_loop_config={"folder": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path / "storage")),
    ).fit()
    assert json.loads((tmp_path / "found.json").read_text()) == [2, False, 2, False]
