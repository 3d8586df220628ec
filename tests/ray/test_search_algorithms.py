"""Real sweeps over a trivial trial: every search algorithm and scheduler under Ray's own controller."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ray import tune as ray_tune
from ray.tune import Trainable
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from raytrainer.sweep.schedulers import scheduler
from raytrainer.sweep.schedulers_population import Population
from raytrainer.sweep.searchers import searcher
from raytrainer.sweep.suggesting import Suggesting
from tests.unit.sweep_stage import BATCH, DECAY, LONGEST, SPACE, WIDE, loss, tune

pytestmark = pytest.mark.ray


class Trivial(Trainable):
    """Worker: a loss that follows from the config and the step; what is saved is the step and the donor's decay."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reached, self.from_decay = 0, 0.0

    def step(self) -> dict[str, Any]:
        self.reached += 1
        mark = self.config.get("kills")
        if mark and self.reached == 3 and not os.path.exists(mark):
            Path(mark).touch()
            raise RuntimeError("once")
        value = loss(self.config, self.reached)
        return {"eval_loss": value, "step": self.reached, "from": self.from_decay, "done": self.reached >= LONGEST}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "state").write_text(f"{self.reached} {self.config[DECAY]}")

    def load_checkpoint(self, checkpoint: Any) -> None:
        reached, decay = Path(checkpoint, "state").read_text().split()
        self.reached, self.from_decay = int(reached), float(decay)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.reached, self.from_decay = 0, 0.0
        return True


KINDS: dict[str, dict[str, Any]] = {
    "random": {"search": "random"},
    "grid": {"search": "grid"},
    "optuna": {"search": "optuna", "scheduler": {"asha": {"grace_period": 2}}},
    "optuna, hyperband": {"search": "optuna", "scheduler": {"hyperband": {"reduction_factor": 2}}},
    "hyperopt": {"search": "hyperopt", "scheduler": {"median_stopping": {"grace_period": 4}}},
    "bohb": {"search": "bohb", "scheduler": {"bohb": {"reduction_factor": 2}}},
    "ax": {"search": "ax"},
    "repeats": {"search": "optuna", "repeats": 2},
    "pbt": {"scheduler": {"pbt": {"perturbation_interval": 3}}},
    "pbt, all together": {"scheduler": {"pbt": {"perturbation_interval": 3, "synch": True}}},
    "pb2": {"scheduler": {"pb2": {"perturbation_interval": 5}}},
}


def sweep(folder: Path, kind: dict[str, Any], resume: bool = False, **config: Any) -> tuple[list[Trial], Suggesting]:
    settings = tune(**{"num_samples": 6, **kind})
    space = type(SPACE).of({**WIDE, BATCH: {"grid": [8, 16]}}) if kind.get("search") == "grid" else SPACE
    built = scheduler(settings, space, LONGEST)
    algorithm, own = searcher(settings, space, {}, built, max_concurrent=2)
    done = ray_tune.run(
        Trivial,
        name="sweep",
        storage_path=str(folder),
        search_alg=algorithm,
        scheduler=built,
        config={**own, **config},
        resources_per_trial={"CPU": 2},
        reuse_actors=True,
        max_failures=1,
        verbose=0,
        resume=resume,
    )
    return done.trials, algorithm


# What the fault tests of whole sweeps do not have; the rest by make test-all.
QUICK = ("optuna, hyperband", "hyperopt", "pbt")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
)
def test_a_sweep_runs_to_its_end_though_a_trial_fails_once(name: str, tmp_path: Path, ray_cluster: None) -> None:
    trials, algorithm = sweep(tmp_path, KINDS[name], kills=str(tmp_path / "killed"))
    assert (tmp_path / "killed").exists()
    assert len(trials) == algorithm.total_samples == (12 if name in ("grid", "repeats") else 6)
    assert {trial.status for trial in trials} == {Trial.TERMINATED}
    numbers = sorted(int(trial.trial_id.partition("_")[2]) for trial in trials)
    assert numbers == list(range(1, len(trials) + 1))
    assert max(trial.last_result["step"] for trial in trials) == LONGEST
    base = algorithm._scheduler.base if algorithm._scheduler else None
    if isinstance(base, Population):
        assert base.exploits
        donors = {exploit.donor for exploit in base.exploits}
        assert donors < {trial.trial_id for trial in trials}


@pytest.mark.parametrize(
    "name",
    [
        "optuna",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("optuna, hyperband", "bohb", "pbt", "pbt, all together")
        ),
    ],
)
def test_a_driver_that_died_is_gone_on_from(
    name: str, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop is broken off in the middle, while trials wait for each other."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    before: Any = TuneController.step

    def dying(self: TuneController) -> None:
        before(self)
        if sum(trial.last_result.get("step", 0) for trial in self.get_trials()) >= 25:
            self.checkpoint(force=True, wait=True)
            self._cleanup_trials()  # as Ray does with the processes of a driver that died
            raise SystemExit("the driver dies")

    monkeypatch.setattr(TuneController, "step", dying)
    with pytest.raises(SystemExit):
        sweep(tmp_path, KINDS[name])
    monkeypatch.setattr(TuneController, "step", before)
    trials, algorithm = sweep(tmp_path, KINDS[name], resume=True)
    assert len(trials) == 6
    assert {trial.status for trial in trials} == {Trial.TERMINATED}
    assert sorted(int(trial.trial_id.partition("_")[2]) for trial in trials) == list(range(1, 7))
    assert len({trial.trial_id.partition("_")[0] for trial in trials}) == 1
    assert {algorithm.suggestion(trial.trial_id).origin for trial in trials} <= {"random", "model"}
