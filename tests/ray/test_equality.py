"""RayTrainer on two workers does what bare transformers does under torchrun with two processes, to the last bit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.train import RunConfig, ScalingConfig

import raytrainer
from tests.ray.recipes import RECIPES, without_times
from tests.torchrun import torchrun

pytestmark = pytest.mark.ray
HERE = Path(__file__).parent


def reference(recipe: str, folder: Path) -> Any:
    torchrun(HERE / "under_torchrun.py", recipe, str(folder), env={"PYTHONPATH": str(HERE.parents[1])})
    return pickle.loads((folder / "result.pickle").read_bytes())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "causal" else []) for name in sorted(RECIPES)]
)
def test_two_workers_equal_torchrun_with_two_processes(name: str, tmp_path: Path, ray_cluster: None) -> None:
    output, history, evaluation, prediction, weights = reference(name, tmp_path)
    recipe = RECIPES[name]
    kind = "RaySeq2SeqTrain" if recipe.seq2seq else "RayTrain"
    arguments = getattr(raytrainer, f"{kind}ingArguments")(output_dir=tmp_path / "ray", **recipe.arguments)
    parts = recipe.build()
    trainer = getattr(raytrainer, f"{kind}er")(
        args=arguments,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path / "storage"), name=name),
        loss_scale=recipe.loss_scale,
        **parts,
    )

    ours = trainer.train()

    assert ours.global_step == output.global_step == 10
    assert ours.training_loss == output.training_loss
    assert without_times(ours.metrics) == without_times(output.metrics)
    assert trainer.model is parts["model"]
    for key, tensor in trainer.model.state_dict().items():
        assert np.array_equal(tensor.numpy(), weights[key]), key

    assert without_times(trainer.evaluate()) == without_times(evaluation)
    predicted = trainer.predict(parts["eval_dataset"], **recipe.predict)
    assert np.array_equal(predicted.predictions, prediction.predictions)
    assert np.array_equal(predicted.label_ids, prediction.label_ids)
    assert without_times(predicted.metrics) == without_times(prediction.metrics)
    assert [without_times(entry) for entry in trainer.state.log_history] == [without_times(e) for e in history]
