"""A user's program on several hosts, of which only the driver's has its folder: ``program.py SHARED``.

It waits at step 7 for what the test does to the hosts, and leaves its result in ``SHARED/trained.pickle``.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import ray
from beside import Names
from datasets import load_from_disk
from ray.train import FailureConfig, RunConfig, ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from tests.ray.faults import ARGUMENTS, Diary, Holds, Trained
from tests.ray.recipes import classify_words


def main(shared: Path) -> None:
    here = Path(__file__).parent
    ray.init(runtime_env={"working_dir": str(here)}, log_to_driver=False)
    trainer = RayTrainer(
        args=RayTrainingArguments(str(shared / "out"), **ARGUMENTS),
        callbacks=[Diary(shared), Names(shared), Holds(shared, 7)],
        scaling_config=ScalingConfig(num_workers=2, placement_strategy="SPREAD"),
        run_config=RunConfig(name="run", storage_path=str(shared), failure_config=FailureConfig(max_failures=1)),
        **{**classify_words(), "train_dataset": load_from_disk(here / "data")},
    )
    trainer.train()
    (shared / "trained.pickle").write_bytes(pickle.dumps(Trained.of(trainer)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
