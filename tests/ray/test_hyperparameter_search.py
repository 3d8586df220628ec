"""hyperparameter_search on a cluster: each trial is what train() would run with its values."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.hyperopt import HyperOptSearch
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments
from transformers.trainer_utils import BestRun

from raytrainer import RaySeq2SeqTrainer, RaySeq2SeqTrainingArguments, RayTrainer, RayTrainingArguments, distribute
from raytrainer.checkpoints import Store
from raytrainer.errors import Interrupted, TrainingFailed, UserError
from raytrainer.sweep.record_files import read_trial, trial_folder
from tests.ray.recipes import COMMON, RECIPES, classify_words, reverse_words, tiny_bert, tokenizer
from tests.ray.s3 import S3Server
from tests.ray.test_distribute import ClassifierTrainer
from tests.ray.test_trainer import DoublingArguments

pytestmark = pytest.mark.ray


def make(trial: Any) -> Any:
    return tiny_bert(vocabulary=len(tokenizer()), dropout=trial["dropout"] if trial else 0.1)


def plain() -> Any:
    return tiny_bert(vocabulary=len(tokenizer()))


def parts(model_init: Any) -> dict[str, Any]:
    recipe = classify_words()
    del recipe["model"]
    return {**recipe, "model_init": model_init}


def trainer(folder: Path, model_init: Any = plain, arguments: dict[str, Any] | None = None, **own: Any) -> Any:
    given = {**COMMON, **(arguments or {})}
    return RayTrainer(args=RayTrainingArguments(str(folder), **given), **parts(model_init), **own)


def rates(trial: Any) -> dict[str, Any]:
    return {"learning_rate": tune.grid_search([1e-3, 1e-2, 1e-4])}


def wide(trial: Any) -> dict[str, Any]:
    rate = tune.loguniform(1e-4, 1e-1)
    return {"learning_rate": rate, "dropout": tune.uniform(0.0, 0.5), "seed": tune.uniform(1, 9)}


def loss(metrics: dict[str, float]) -> float:
    return metrics["eval_loss"]


def records(best: Any) -> list[dict[str, Any]]:
    trials = sorted(Path(best.run_summary.folder, "trials").glob("0*"))
    return [json.loads((trial / "trial.json").read_text()) for trial in trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Any, BestRun]:
    """Four trials over a field of the arguments and a parameter of the model."""
    made = trainer(tmp_path_factory.mktemp("searched"), make)
    best = made.hyperparameter_search(wide, compute_objective=lambda metrics: metrics["eval_loss"], n_trials=4)
    return made, best


def test_the_best_is_the_least_of_all(searched: tuple[Any, BestRun]) -> None:
    _, best = searched
    trials = records(best)
    last = [trial["history"][-1]["metrics"] for trial in trials]
    assert len(trials) == 4
    assert best.objective == min(metrics["eval_loss"] for metrics in last)
    assert all(metrics["objective"] == metrics["eval_loss"] for metrics in last)
    assert last[int(best.run_id) - 1]["objective"] == best.objective
    assert best.run_summary is not None
    assert list(best.run_summary.dataframe()["score"]) == sorted(metrics["eval_loss"] for metrics in last)


def test_trials_trained_with_what_was_drawn(searched: tuple[Any, BestRun]) -> None:
    trials = records(searched[1])
    assert len({trial["sampled"]["learning_rate"] for trial in trials}) == 4
    for trial in trials:
        assert trial["arguments"]["learning_rate"] == trial["values"]["learning_rate"]
        assert trial["arguments"]["seed"] == trial["values"]["seed"] == int(trial["sampled"]["seed"])
        assert trial["arguments"]["per_device_train_batch_size"] == COMMON["per_device_train_batch_size"]


def test_the_model_has_what_model_init_was_given(searched: tuple[Any, BestRun]) -> None:
    best = searched[1]
    assert best.run_summary is not None
    model = AutoModelForSequenceClassification.from_pretrained(best.run_summary.checkpoint)
    assert model.config.hidden_dropout_prob == best.hyperparameters["dropout"]


def test_the_trainer_is_as_it_was(searched: tuple[Any, BestRun]) -> None:
    made, _ = searched
    assert made.args.learning_rate == COMMON["learning_rate"] and made.args.seed == COMMON["seed"]
    assert made.hp_search_backend is None
    assert made.state.global_step == 0


def test_the_results_are_bare_transformers(searched: tuple[Any, BestRun], tmp_path: Path) -> None:
    best = searched[1]
    values = {name: best.hyperparameters[name] for name in ("learning_rate", "seed")}
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, **{**COMMON, **values})
    bare = Trainer(args=arguments, **parts(lambda: make(best.hyperparameters)))
    bare.train()
    losses = [entry["eval_loss"] for entry in bare.state.log_history if "eval_loss" in entry]
    history = records(best)[int(best.run_id) - 1]["history"]
    assert losses == [entry["metrics"]["eval_loss"] for entry in history]
    assert losses[-1] == best.objective


def test_a_search_of_a_name_is_gone_on_with_or_refused(searched: tuple[Any, BestRun]) -> None:
    made, best = searched
    assert best.run_summary is not None
    folder = Path(best.run_summary.folder)
    with pytest.raises(UserError, match=r"there is a search in .*, finished"):
        made.hyperparameter_search(rates, name=folder.name)
    with pytest.raises(UserError, match="has another space"):
        made.hyperparameter_search(rates, compute_objective=loss, resume=True)
    again = made.hyperparameter_search(wide, compute_objective=loss, n_trials=4, resume=True)
    assert again[:3] == best[:3]


@pytest.mark.slow
def test_maximize_with_the_default_objective(tmp_path: Path, ray_cluster: None) -> None:
    run = RunConfig(storage_path=str(tmp_path / "storage"), name="mine")
    made = trainer(tmp_path / "out", run_config=run)
    best = made.hyperparameter_search(rates, n_trials=1, direction="maximize", hp_name=lambda trial: f"n{trial.number}")
    trials = records(best)
    assert best.run_summary.folder == str(tmp_path / "storage" / "mine" / "search")
    assert best.objective == max(trial["history"][-1]["metrics"]["eval_accuracy"] for trial in trials)
    assert [trial["arguments"]["run_name"] for trial in trials] == ["n1", "n2", "n3"]
    assert best.objective == records(best)[int(best.run_id) - 1]["history"][-1]["metrics"]["objective"]


@pytest.mark.slow
def test_optuna_with_two_objectives(tmp_path: Path, ray_cluster: None) -> None:
    def asked(trial: Any) -> dict[str, Any]:
        dropout = trial.suggest_categorical("dropout", [0.0, 0.5])
        return {"dropout": dropout, "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)}

    def init(trial: Any) -> Any:
        return make({"dropout": trial.params["dropout"]})

    front = trainer(tmp_path, init).hyperparameter_search(
        asked,
        compute_objective=lambda metrics: [metrics["eval_loss"], metrics["eval_accuracy"]],
        n_trials=4,
        direction=["minimize", "maximize"],
    )
    assert isinstance(front, list) and front
    points = [
        [entry["metrics"][name] for name in ("objective_1", "objective_2")]
        for entry in (trial["history"][-1] for trial in records(front[0]))
    ]
    assert len(points) == 4
    unbeaten = [p for p in points if not any(o != p and o[0] <= p[0] and o[1] >= p[1] for o in points)]
    assert sorted(run.objective for run in front) == sorted(unbeaten)
    assert all(run.hyperparameters["dropout"] in (0.0, 0.5) for run in front)


@pytest.mark.slow
def test_asha_stops_some_and_hyperopt_searches(tmp_path: Path, ray_cluster: None) -> None:
    made = trainer(tmp_path, arguments={"eval_steps": 2, "max_steps": 12})
    best = made.hyperparameter_search(
        lambda _: {"learning_rate": tune.loguniform(1e-5, 1e-1)},
        compute_objective=loss,
        n_trials=6,
        backend="ray",
        search_alg=HyperOptSearch(metric="objective", mode="min", random_state_seed=1),
        scheduler=ASHAScheduler(metric="objective", mode="min", max_t=6, grace_period=1, reduction_factor=2),
        max_concurrent_trials=1,
        keep_checkpoints_num=1,
    )
    steps = [trial["history"][-1]["step"] for trial in records(best)]
    ends = [json.loads(end.read_text()) for end in sorted(Path(best.run_summary.folder).glob("trials/0*/end.json"))]
    assert len(steps) == 6 and max(steps) == 12 and min(steps) < 12
    assert [end["state"] for end in ends] == ["finished" if step == 12 else "stopped" for step in steps]
    assert {end["reason"] for end in ends if end["state"] == "stopped"} == {"asha"}
    assert math.isfinite(best.objective)


class PressesCtrlC(Callback):
    """Once, when the second trial has ended."""

    def __init__(self) -> None:
        self.ended = 0

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.ended += 1
        if self.ended == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_an_interrupted_search_goes_on(tmp_path: Path, ray_cluster: None) -> None:
    call = {"compute_objective": loss, "n_trials": 4, "max_concurrent_trials": 1}
    with pytest.raises(Interrupted):
        trainer(tmp_path, make).hyperparameter_search(wide, callbacks=[PressesCtrlC()], **call)
    best = trainer(tmp_path, make).hyperparameter_search(wide, resume=True, **call)
    trials = records(best)
    whole = trainer(tmp_path / "whole", make).hyperparameter_search(wide, **call)
    assert len(trials) == 4 and [trial["attempts"] for trial in trials[:2]] == [1, 1]
    assert [trial["sampled"] for trial in trials] == [trial["sampled"] for trial in records(whole)]
    assert best.objective == whole.objective


@pytest.mark.slow
def test_population_based_training(tmp_path: Path, ray_cluster: None) -> None:
    rates = {"learning_rate": tune.loguniform(1e-4, 1e-1)}
    made = trainer(tmp_path, arguments={"eval_steps": 2, "max_steps": 12})
    best = made.hyperparameter_search(
        lambda _: rates,
        n_trials=4,
        direction="minimize",
        compute_objective=loss,
        scheduler=PopulationBasedTraining("training_iteration", perturbation_interval=2, hyperparam_mutations=rates),
    )
    trials = records(best)
    changes = [change for trial in trials for change in trial["changes"]]
    assert changes and all(change["from"] in {trial["id"] for trial in trials} for change in changes)
    assert {trial["history"][-1]["step"] for trial in trials} == {12}
    assert best.objective == min(trial["history"][-1]["metrics"]["eval_loss"] for trial in trials)


@pytest.mark.slow
def test_arguments_that_derive_fields_derive_them_once(tmp_path: Path, ray_cluster: None) -> None:
    given = DoublingArguments(str(tmp_path), use_cpu=True, **{**COMMON, "eval_strategy": "no"})
    made = RayTrainer(args=given, **parts(plain))
    best = made.hyperparameter_search(lambda _: {"learning_rate": 1e-3}, compute_objective=loss, n_trials=1)
    (trial,) = records(best)
    assert trial["arguments"]["learning_rate"] == 2e-3
    assert [entry["step"] for entry in trial["history"]] == [COMMON["max_steps"]]


@pytest.mark.slow
def test_a_search_in_an_object_store(tmp_path: Path, ray_cluster: None) -> None:
    with S3Server() as server:
        made = trainer(tmp_path, run_config=RunConfig(storage_path=server.bucket("runs"), name="mine"))
        best = made.hyperparameter_search(lambda _: {"learning_rate": 1e-3}, compute_objective=loss, n_trials=1)
        folder = Store(best.run_summary.folder)
        assert "mine/search" in folder.path
        assert read_trial(folder, 1).history[-1].metrics["eval_loss"] == best.objective
        assert folder.read("results.csv")
        assert trial_folder(folder, 1).read(f"checkpoints/checkpoint-{COMMON['max_steps']}/model.safetensors")


@pytest.mark.slow
def test_a_trainer_that_makes_its_model_itself(tmp_path: Path, ray_cluster: None) -> None:
    given = RayTrainingArguments(str(tmp_path), **{**COMMON, "eval_strategy": "no", "max_steps": 2})
    made: Any = distribute(ClassifierTrainer)(3, given, rows=16)
    space = {"learning_rate": tune.choice([1e-3])}
    best = made.hyperparameter_search(lambda _: space, n_trials=1, stop={"step": 100}, time_budget_s=500)
    assert best.objective == records(best)[0]["history"][-1]["metrics"]["eval_loss"]


@pytest.mark.slow
def test_a_trial_that_fails_stops_no_other_unless_asked(tmp_path: Path, ray_cluster: None) -> None:
    def init(trial: Any) -> Any:
        if trial["layers"] == 2:
            raise RuntimeError("two layers are too many")
        return plain()

    call: dict[str, Any] = {"n_trials": 1, "compute_objective": loss, "max_concurrent_trials": 1}
    made = trainer(tmp_path, init)
    with pytest.raises(TrainingFailed, match="1 trials failed: 2"):
        made.hyperparameter_search(lambda _: {"layers": tune.grid_search([1, 2])}, raise_on_failed_trial=True, **call)
    with pytest.raises(TrainingFailed, match="two layers are too many"):
        made.hyperparameter_search(lambda _: {"layers": 2}, **call)
    assert sorted(folder.name for folder in tmp_path.glob("search*")) == ["search", "search-2"]


def test_metrics_of_generated_sequences(tmp_path: Path, ray_cluster: None) -> None:
    recipe = reverse_words()
    model = recipe.pop("model")
    given = {**RECIPES["seq2seq"].arguments, "eval_strategy": "no"}
    made = RaySeq2SeqTrainer(
        args=RaySeq2SeqTrainingArguments(str(tmp_path), **given), model_init=lambda: model, **recipe
    )
    beams: dict[str, Any] = {"generation_num_beams": tune.grid_search([1, 2])}
    best = made.hyperparameter_search(
        lambda _: beams,
        compute_objective=lambda metrics: metrics["eval_length"],
        n_trials=1,
        direction="maximize",
    )
    assert isinstance(best, BestRun)
    trials = records(best)
    assert [trial["arguments"]["generation_num_beams"] for trial in trials] == [1, 2]
    assert [len(trial["history"]) for trial in trials] == [1, 1]
    assert best.objective == max(trial["history"][-1]["metrics"]["eval_length"] for trial in trials) > 0


@pytest.mark.slow
def test_two_workers_a_trial(tmp_path: Path, ray_cluster: None) -> None:
    made = trainer(tmp_path, make, scaling_config=ScalingConfig(num_workers=2))
    space: dict[str, Any] = {"learning_rate": tune.grid_search([1e-3, 1e-2]), "dropout": 0.1}
    best = made.hyperparameter_search(lambda _: space, compute_objective=loss, n_trials=1)
    trials = records(best)
    assert [trial["workers"] for trial in trials] == [2, 2]
    assert best.objective == min(trial["history"][-1]["metrics"]["eval_loss"] for trial in trials)
    alone = trainer(tmp_path / "alone", plain, scaling_config=ScalingConfig(num_workers=2))
    alone.args.learning_rate = best.hyperparameters["learning_rate"]
    alone.train()
    losses = [entry["eval_loss"] for entry in alone.state.log_history if "eval_loss" in entry]
    assert losses[-1] == best.objective


@pytest.mark.slow
def test_an_objective_that_raises_fails_a_trial_of_two_workers(tmp_path: Path, ray_cluster: None) -> None:
    made = trainer(tmp_path, scaling_config=ScalingConfig(num_workers=2))
    with pytest.raises(TrainingFailed, match="eval_nothing"):
        made.hyperparameter_search(rates, compute_objective=lambda metrics: metrics["eval_nothing"], n_trials=1)
