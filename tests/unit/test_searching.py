"""hyperparameter_search before anything is started: what is asked for, what the values mean, what is refused."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import ray
from ray import tune
from ray.train import ScalingConfig
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, ResourceChangingScheduler
from ray.tune.search import BasicVariantGenerator, Repeater
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch
from transformers import TrainingArguments

from raytrainer import RayTrainer, RayTrainingArguments, cluster
from raytrainer.errors import ArgumentsError, ShippingError, UserError
from raytrainer.searching.goals import Goals
from raytrainer.searching.names import Names
from raytrainer.searching.options import Options
from raytrainer.searching.refused import REFUSED
from raytrainer.searching.scheduling import scaling_of
from raytrainer.searching.spaces import DefineByRun, Domains
from raytrainer.searching.values import TrialValues
from tests.ray.recipes import tiny_bert, vowels

ROWS = vowels(4, 1)
LR = {"learning_rate": tune.loguniform(1e-5, 1e-2)}


def make(trial: Any) -> Any:
    return tiny_bert(dropout=trial["dropout"])


def no_argument() -> Any:
    return tiny_bert()


def trainer(**changes: Any) -> Any:
    arguments = RayTrainingArguments("out", report_to="none", **changes.pop("arguments", {}))
    parts = {"args": arguments, "model_init": no_argument, "train_dataset": ROWS, "eval_dataset": ROWS}
    return RayTrainer(**{**parts, **changes})


@dataclass
class Wrong:
    """A call, and of its error the setting, the value, a part of the reason, a part of the fix."""

    call: Callable[[], Any]
    setting: str
    value: str
    reason: str
    fix: str


def search(space: Any = LR, /, **kwargs: Any) -> Callable[[], Any]:
    built = {name: kwargs.pop(name) for name in ("arguments", "model_init", "scaling_config") if name in kwargs}
    built = {"model_init": no_argument, **built}
    return lambda: trainer(**built).hyperparameter_search(lambda _: space, **kwargs)


def asking(trial: Any) -> dict[str, Any]:
    return {"learnin_rate": trial.suggest_float("learnin_rate", 1e-5, 1e-3)}


TABLE = {
    "misspelt": Wrong(
        search({"learnin_rate": tune.uniform(0, 1)}),
        *("hp_space['learnin_rate']", "'learnin_rate'", "no such field", "write 'learning_rate'"),
    ),
    "misspelt, and model_init does not read it": Wrong(
        search({"learnin_rate": tune.uniform(0, 1)}, model_init=make),
        *("hp_space['learnin_rate']", "'learnin_rate'", "does not mention it", "write 'learning_rate'"),
    ),
    "misspelt, asked of Optuna": Wrong(
        lambda: trainer(model_init=make).hyperparameter_search(asking),
        *("hp_space['learnin_rate']", "'learnin_rate'", "does not mention it", "write 'learning_rate'"),
    ),
    "nobody takes it": Wrong(
        search({"dropout": tune.uniform(0, 1)}),
        *("hp_space['dropout']", "'dropout'", "model_init takes no argument", "def model_init(trial)"),
    ),
    "text for a truth value": Wrong(
        search({"bf16": tune.choice(["False", "True"])}),
        *("hp_space['bf16']", "'False'", "it is text", "true or false"),
    ),
    "text for a number": Wrong(
        search({"learning_rate": tune.choice([1e-3, "1e-4"])}),
        *("hp_space['learning_rate']", "'1e-4'", "it is text", "a number"),
    ),
    "out of range at one end": Wrong(
        search({"per_device_train_batch_size": tune.randint(0, 8)}),
        *("hp_space['per_device_train_batch_size']", "0", "out of range", "at least 1"),
    ),
    "no such choice": Wrong(
        search({"lr_scheduler_type": tune.choice(["linear", "cosin"])}),
        *("hp_space['lr_scheduler_type']", "'cosin'", "none of the choices", "cosine"),
    ),
    "transformers refuses the two": Wrong(
        search({"eval_strategy": tune.choice(["no", "epoch"]), "eval_steps": 3, "save_strategy": "whenever"}),
        *("hp_space['save_strategy']", "'whenever'", "none of the choices", "steps"),
    ),
    "a folder of its own": Wrong(
        search({"output_dir": tune.choice(["a", "b"])}),
        *("hp_space['output_dir']", "'output_dir'", "a folder of its own", "hp_name"),
    ),
    "no space": Wrong(search(None), "hp_space", "None", "returned a NoneType", "tune.loguniform"),
    "a space that is no function": Wrong(
        lambda: trainer().hyperparameter_search(LR), "hp_space", "learning_rate", "cannot be called", "def hp_space"
    ),
    "no trials": Wrong(search(n_trials=0), "n_trials", "0", "no number of trials", "from 1"),
    "endless": Wrong(search(n_trials=-1), "n_trials", "-1", "no number of trials", "time_budget_s"),
    "direction": Wrong(search(direction="max"), "direction", "'max'", "no direction", "'maximize'"),
    "two directions, one figure": Wrong(
        search(direction=["minimize", "maximize"]),
        *("compute_objective", "None", "one figure", "as many figures"),
    ),
    "objective": Wrong(
        search(compute_objective="eval_loss"), "compute_objective", "'eval_loss'", "cannot be called", "lambda metrics"
    ),
    "wandb": Wrong(search(backend="wandb"), "backend", "'wandb'", "own agent", "'optuna'"),
    "backend": Wrong(search(backend="sigopt"), "backend", "'sigopt'", "no such backend", "optuna"),
    "unknown argument": Wrong(search(sheduler=None), "sheduler", "None", "no such argument", "write 'scheduler'"),
    "reporter": Wrong(search(progress_reporter=1), "progress_reporter", "1", "its own table", "nothing"),
    "pruner": Wrong(
        search(pruner=optuna.pruners.MedianPruner()), "pruner", "MedianPruner", "stop trials here", "ASHAScheduler()"
    ),
    "two checkpoints a trial": Wrong(
        search(keep_checkpoints_num=2), "keep_checkpoints_num", "2", "of the evaluation that counts", "keep="
    ),
    "no failures": Wrong(search(max_failures="3"), "max_failures", "'3'", "it is '3'", "a whole number"),
    "no concurrency": Wrong(search(max_concurrent_trials=0), "max_concurrent_trials", "0", "it is 0", "from 1"),
    "no time": Wrong(search(time_budget_s=0), "time_budget_s", "0", "it is 0", "above 0"),
    "name": Wrong(search(name="a/b"), "name", "'a/b'", "it is 'a/b'", "a folder's name"),
    "transformers' callbacks": Wrong(search(callbacks=[print]), "callbacks", "print", "a list", "ray.tune.Callback"),
    "resume of nothing": Wrong(
        search(resume=True, name="nowhere"), "resume", "True", "there is no search in", "storage_path"
    ),
    "two GPUs": Wrong(
        search(resources_per_trial={"cpu": 1, "gpu": 2}),
        *("resources_per_trial", "2", "a worker uses one GPU", "ScalingConfig(num_workers=2, use_gpu=True)"),
    ),
    "resources twice": Wrong(
        search(resources_per_trial={"cpu": 1}, scaling_config=ScalingConfig(num_workers=1)),
        *("resources_per_trial", "cpu", "scaling_config says", "resources_per_worker"),
    ),
    "no evaluation to decide by": Wrong(
        search(scheduler=ASHAScheduler()), "scheduler", "AsyncHyperBandScheduler", "eval_strategy is 'no'", "eval_steps"
    ),
    "the other way round": Wrong(
        search(scheduler=ASHAScheduler(metric="objective", mode="max"), arguments={"eval_strategy": "epoch"}),
        *("scheduler", "'max'", "direction says the opposite", "mode='min'"),
    ),
    "resources that change": Wrong(
        search(scheduler=ResourceChangingScheduler(), arguments={"eval_strategy": "epoch"}),
        *("scheduler", "ResourceChangingScheduler", "those of scaling_config", "num_workers=(2, 8)"),
    ),
    "scheduler": Wrong(search(scheduler="ash"), "scheduler", "'ash'", "must be one of", "ASHAScheduler()"),
    "searcher goes by something else": Wrong(
        search(search_alg=HyperOptSearch(metric="eval_loss", mode="min")),
        *("search_alg", "'eval_loss'", "what compute_objective returns", "metric='objective'"),
    ),
    "searcher with a space": Wrong(
        search(search_alg=OptunaSearch(lambda trial: None, metric="objective", mode="min")),
        *("search_alg", "OptunaSearch", "a space of its own", "without a space"),
    ),
    "grid for a searcher": Wrong(
        search({"learning_rate": tune.grid_search([1e-3, 1e-4])}, search_alg=HyperOptSearch()),
        *("search_alg", "HyperOptSearch", "does not take this hp_space", "no search_alg"),
    ),
    "repeater": Wrong(
        search(search_alg=Repeater(HyperOptSearch(metric="objective", mode="min"))),
        *("search_alg", "Repeater", "the same trial", "grid_search"),
    ),
    "Ray's random search": Wrong(
        search(search_alg=BasicVariantGenerator()), "search_alg", "BasicVariantGenerator", "without it", "seed="
    ),
    "sampler": Wrong(search(sampler=3), "sampler", "3", "one of Optuna's", "backend='optuna'"),
    "metric": Wrong(
        search(metric="eval_loss"), "metric", "'eval_loss'", "what compute_objective returns", "metric='objective'"
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_is_wrong_is_told_before_any_trial(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = TABLE[case]
    running = ray.is_initialized()
    with pytest.raises(UserError) as caught:
        wrong.call()
    problem = caught.value.problems[0]
    assert problem.setting == wrong.setting
    assert wrong.value in repr(problem.value)
    assert wrong.reason in problem.reason
    assert wrong.fix in problem.fix
    assert ray.is_initialized() is running
    assert list(tmp_path.iterdir()) == []


def test_an_objective_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(ShippingError) as caught:
        search(compute_objective=lambda metrics: float(lock.locked()))()
    assert [problem.setting for problem in caught.value.problems] == ["compute_objective"]


def test_a_name_that_model_init_reads_may_be_like_a_field() -> None:
    def init(trial: Any) -> Any:
        return [trial[name] for name in ("seeds",)]

    names = Names.of(RayTrainingArguments("out"))
    assert list(names.unknown(["seeds", "layers", "seed"], init)) == []
    assert [problem.value for problem in names.unknown(["seeds", "layers"], make)] == ["seeds"]


def test_values_are_pythons_own_and_whole_where_the_field_is() -> None:
    names = Names.of(RayTrainingArguments("out"))
    sampled = {
        "seed": 17.9,
        "learning_rate": np.float64(0.5),
        "eval_steps": 0.5,
        "max_steps": np.int64(3),
        "width": 2.5,
    }
    fitted = names.fitted(sampled)
    assert fitted == {"seed": 17, "learning_rate": 0.5, "eval_steps": 0.5, "max_steps": 3, "width": 2.5}
    assert [type(value) for value in fitted.values()] == [int, float, float, int, float]


@dataclass
class OwnArguments(TrainingArguments):
    rounds: int = 1
    quick: bool = False


def test_fields_of_the_users_own_class(tmp_path: Path) -> None:
    given = OwnArguments(str(tmp_path), use_cpu=True)
    names = Names.of(given)
    assert names.fitted({"rounds": 2.7}) == {"rounds": 2}
    assert list(names.unknown(["rounds", "quick"], no_argument)) == []
    built = trainer(args=given, model_init=no_argument)
    with pytest.raises(ArgumentsError) as caught:
        built.hyperparameter_search(lambda _: {"quick": tune.choice(["False"]), "rounds": tune.choice(["many"])})
    assert {problem.setting for problem in caught.value.problems} == {"hp_space['quick']", "hp_space['rounds']"}


def doubled(spec: Any) -> int:
    return int(spec.config.a * 2)


def test_ends_of_domains() -> None:
    space = Domains(
        {
            "a": tune.randint(1, 4),
            "b": tune.quniform(0.1, 1, 0.1),
            "c": {"d": tune.choice(["x", "y", "z"])},
            "e": tune.sample_from(doubled),
            "f": 7,
            "g": tune.randn(5, 1),
        }
    )
    ends = list(space.ends())
    assert ends[0] == {"a": 1, "b": 0.1, "c": {"d": "x"}, "e": 2, "f": 7, "g": 5}
    assert {end["a"] for end in ends} == {1, 3}
    assert max(end["b"] for end in ends) == 1.0
    assert {end["c"]["d"] for end in ends} == {"x", "y", "z"}
    assert all(end["e"] == 2 * end["a"] for end in ends)
    assert space.describe() == {
        **{"f": "7", "a": "integer (1, 4)", "b": "float (0.1, 1)", "c.d": "categorical ['x', 'y', 'z']"},
        **{"e": "a function", "g": "float (-inf, inf)"},
    }


def test_grids_are_multiplied() -> None:
    space = Domains({"a": tune.grid_search([1, 2]), "b": tune.grid_search([3, 4, 5]), "c": tune.uniform(0, 1)})
    drawn = space.sample(np.random.RandomState(0))
    assert space.grid_size == len(drawn) == 6
    assert len({(values["a"], values["b"]) for values in drawn}) == 6


def test_ends_of_what_is_asked_of_optuna() -> None:
    def asked(trial: Any) -> dict[str, Any]:
        kind = trial.suggest_categorical("kind", ["small", "large"])
        values = {"kind": kind, "rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True)}
        return {**values, "layers": trial.suggest_int("layers", 1, 5, step=2)} if kind == "large" else values

    space = DefineByRun(asked, lambda values: None)
    ends = list(space.ends())
    assert {(end["kind"], end["rate"], end.get("layers")) for end in ends} >= {
        ("small", 1e-4, None),
        ("large", 1e-2, 5),
        ("large", 1e-2, 1),
    }
    assert space.describe()["layers"] == "int (1, 5, step 2)"


def test_a_trial_is_a_dictionary_and_an_optuna_trial() -> None:
    trial: Any = pickle.loads(pickle.dumps(TrialValues({"dropout": 0.1}, 3)))
    assert trial == {"dropout": 0.1}
    assert issubclass(TrialValues, dict) and trial["dropout"] == trial.params["dropout"] == 0.1
    assert trial.suggest_float("dropout", 0, 1) == 0.1 and trial.number == 3
    with pytest.raises(ArgumentsError, match="hp_space has no such name"):
        trial.suggest_int("layers", 1, 2)


def test_figures() -> None:
    one = Goals.of(None, "minimize")
    assert one.figures({"eval_loss": 2.0, "eval_runtime": 9.0, "epoch": 1.0}) == {"objective": 2.0}
    two = Goals.of(lambda metrics: (metrics["a"], 1), ["maximize", "minimize"])
    assert two.figures({"a": 3.0}) == {"objective_1": 3.0, "objective_2": 1.0}
    assert two.modes == ("max", "min")
    for wrong in (lambda metrics: None, lambda metrics: [1.0, 2.0], lambda metrics: "high"):
        with pytest.raises(ArgumentsError, match="compute_objective"):
            Goals.of(wrong, "minimize").figures({})


def test_what_is_refused_is_not_taken() -> None:
    assert REFUSED.keys() & Options.__dataclass_fields__.keys() == set()
    takes = set(tune.run.__kwdefaults__) - {name for name in tune.run.__kwdefaults__ if name.startswith("_")}
    assert takes <= REFUSED.keys() | Options.__dataclass_fields__.keys()


def test_all_that_is_wrong_with_arguments_is_told_at_once() -> None:
    with pytest.raises(ArgumentsError) as caught:
        Options.of({"verbose": 1, "keep": -1, "seeed": 3})
    assert [problem.setting for problem in caught.value.problems] == ["verbose", "seeed", "keep"]


def test_stop_conditions() -> None:
    stopper = Options.of({"stop": {"step": 4, "eval_accuracy": 0.9}}).stopper
    assert stopper is not None
    assert [stopper("id", {"step": step}) for step in (3, 4)] == [False, True]
    assert stopper("id", {"step": 1, "eval_accuracy": 0.95})


def test_resources_of_a_trial() -> None:
    scaling = scaling_of(None, {"cpu": 2, "gpu": 0.5, "accordion": 1})
    assert scaling is not None and scaling.use_gpu and scaling.num_workers == 1
    assert scaling.resources_per_worker == {"CPU": 2.0, "GPU": 0.5, "accordion": 1.0}


@pytest.mark.parametrize(("workers", "most", "trials"), [(1, None, 4), (1, 2, 2), (3, None, 1)])
def test_trials_of_one_worker_are_counted_too(
    workers: int, most: int | None, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raytrainer.searching.search import _connect

    there = {"connect": None, "check_supply": None, "room_for": 4}
    for name, said in there.items():
        monkeypatch.setattr(cluster, name, lambda *arguments, said=said: said)
    scaling = ScalingConfig(num_workers=workers)
    assert _connect(scaling, most) == (scaling, trials)


def test_what_population_based_training_mutates_is_a_name_too() -> None:
    mutations = {"learnin_rate": tune.uniform(0, 1)}
    asked = PopulationBasedTraining(hyperparam_mutations=mutations)
    with pytest.raises(ArgumentsError) as caught:
        search(scheduler=asked, arguments={"eval_strategy": "epoch"})()
    assert [problem.setting for problem in caught.value.problems] == ["hyperparam_mutations['learnin_rate']"]


def test_population_based_training_goes_by_the_search() -> None:
    from raytrainer.searching.scheduling import name_of, scheduling, waits

    given = RayTrainingArguments("out", eval_strategy="steps", eval_steps=1)
    asked = PopulationBasedTraining(hyperparam_mutations={"learning_rate": tune.uniform(0, 1)})
    scheduler = scheduling(asked, Goals.of(None, "maximize"), given, 0)
    assert scheduler.metric == "objective" and asked._mode == "max"
    assert waits(scheduler) and name_of(scheduler) == "pbt"
