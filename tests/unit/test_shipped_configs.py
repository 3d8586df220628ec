"""Every config that we show or ship is one that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raytrainer.config.loading import load_config
from raytrainer.config.schema import TASKS
from raytrainer.config.sweep import load_sweep
from raytrainer.keeping import Keep, keep
from raytrainer.launch.cheap import without_effect
from raytrainer.launch.config_study import ConfigStudy
from raytrainer.launch.plan import plan
from raytrainer.launch.sweep_plan import ends_of
from raytrainer.sweep.schedulers import scheduler
from raytrainer.sweep.searchers import searcher
from raytrainer.sweep.space import Space

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*.yaml"))
SWEEPS = sorted(ROOT.glob("tune_configs/*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example(path: Path) -> None:
    load_config(str(path))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep(path: Path, tmp_path: Path) -> None:
    loaded = load_sweep(str(path))
    # Search algorithm and scheduler take their options, and every trial's arguments can be built.
    space, tune = Space.of(loaded.space), loaded.tune
    study = ConfigStudy(loaded, space, None)
    steps = {study.planned(loaded.trial_config(study.complete(end))).arguments.max_steps for end in ends_of(space)}
    lasting = scheduler(tune, space, max(steps))
    searcher(tune, space, loaded.base, lasting)
    # What the file says of itself is true.
    head = re.match(r"(#.*\n)+", path.read_text())
    assert head and f"raytrainer tune tune_configs/{path.name}" in head[0]
    assert "Costs" in head[0] and "To change" in head[0]
    data = re.search(r"python examples/data\.py (\w+)\n", head[0])
    assert data and f"examples/data/{data[1]}/train.jsonl" == loaded.base["data"]["train"]
    # Under a name of its own, and it makes itself again.
    assert loaded.name == path.stem.replace("_", "-")
    (tmp_path / "again.yaml").write_text(loaded.yaml())
    assert load_sweep(str(tmp_path / "again.yaml")) == loaded


def test_every_task_has_an_example() -> None:
    assert {load_config(str(path)).config.task for path in EXAMPLES} == set(TASKS)


AS_DESIGNED = """
name: dates-en-de
task: seq2seq
model: {from_config: {model_type: t5, d_model: 64, num_layers: 2}, tokenizer: characters}
data: {train: data/train.jsonl, eval: data/eval.jsonl, source: text, target: iso}
training: {learning_rate: 3.0e-3, per_device_train_batch_size: 32, max_steps: 1000, predict_with_generate: true}
precision: auto
scaling: {num_workers: 2, use_gpu: false}
run: {storage_path: runs, max_failures: 3, keep: {last: 2, best: 1}}
mlflow: {tracking_uri: "sqlite:///mlflow.db", experiment: dates, register: null}
"""


def test_names_that_others_rely_on(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(AS_DESIGNED)
    config = load_config(str(tmp_path / "run.yaml")).config
    planned = plan(config)
    assert planned.run.failure_config is not None and planned.run.failure_config.max_failures == 3
    assert keep(planned.arguments, planned.run) == Keep(limit=3, best=1, metric="eval_loss")
    assert list(without_effect(planned)) == [
        "run.keep.best = 1 does nothing: training.eval_strategy is no, so none is better than another"
    ]
    (tmp_path / "with.yaml").write_text(AS_DESIGNED.replace("{learning_rate", "{eval_strategy: steps, learning_rate"))
    assert not list(without_effect(plan(load_config(str(tmp_path / "with.yaml")).config)))
