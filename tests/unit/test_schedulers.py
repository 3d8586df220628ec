"""Every scheduler: what it is told is heard, its decisions follow from the seed, and its state outlives the driver."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from raytrainer.errors import ConfigError
from raytrainer.sweep.lasting import Lasting
from raytrainer.sweep.schedulers import OPTIONS, scheduler
from raytrainer.sweep.schedulers_population import Population
from raytrainer.sweep.space import Space
from raytrainer.sweep.suggestions import ORIGIN
from tests.unit.sweep_stage import (
    BATCH,
    DECAY,
    HEAD,
    LONGEST,
    RATE,
    SPACE,
    WIDE,
    Stage,
    drawn,
    keep,
    revived,
    search,
    staged,
    trial_of,
    tune,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "fifo": {},
    "asha": {"grace_period": 2, "reduction_factor": 2, "brackets": 2},
    "hyperband": {"reduction_factor": 2},
    "bohb": {"reduction_factor": 2},
    "median_stopping": {"grace_period": 3, "min_samples_required": 2},
    "pbt": {"perturbation_interval": 3},
    "pb2": {"perturbation_interval": 5},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, options) for name, options in SETTINGS.items()},
    "pbt, all together": ("pbt", {"perturbation_interval": 3, "synch": True}),
    "pb2, all together": ("pb2", {"perturbation_interval": 5, "synch": True}),
    "median, paused": ("median_stopping", {"grace_period": 3, "min_samples_required": 2, "hard_stop": False}),
}


def settings_of(variant: str, **more: Any) -> Any:
    name, options = VARIANTS[variant]
    return tune(scheduler={name: options}, **more)


def test_every_scheduler_is_in_the_suite() -> None:
    assert set(SETTINGS) == set(OPTIONS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_trial_comes_to_an_end(variant: str) -> None:
    stage = staged(settings_of(variant), drawn(8))
    stage.run(200)
    assert [trial.status for trial in stage.trials] == [Trial.TERMINATED] * 8
    longest = max(step for _, step, *_ in stage.story)
    assert longest >= LONGEST, "somebody is trained to the end"


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "pb" not in name and name != "fifo"])
def test_bad_trials_are_stopped_early(variant: str) -> None:
    good = {RATE: 0.01, BATCH: 8, DECAY: 0.4, HEAD: 1}
    bad = {RATE: 0.1, BATCH: 32, DECAY: 1.0, HEAD: 4}
    stage = staged(settings_of(variant), [good, bad] * 8)
    stage.run(400)
    steps = {trial.trial_id: stage.steps[trial.trial_id] for trial in stage.trials}
    of_good, of_bad = list(steps.values())[::2], list(steps.values())[1::2]
    if variant == "median, paused":  # they go on when the others are through
        whole = list(dict.fromkeys(id for id, step, *_ in stage.story if step == LONGEST))
        last = [number for number, id in enumerate(whole) if int(id[2:]) % 2 == 0]
        assert sum(last) > sum(range(16)) - sum(last)
    else:
        assert sum(of_bad) < sum(of_good)
        assert max(of_good) == LONGEST


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rounds", [5, 12])
def test_a_restored_scheduler_decides_as_the_undisturbed_one(variant: str, rounds: int) -> None:
    configs = drawn(8)
    undisturbed = staged(settings_of(variant), configs)
    undisturbed.run(rounds)
    state, told = undisturbed.scheduler.state(), len(undisturbed.story)

    trials = [copied(trial) for trial in undisturbed.trials]
    again = scheduler(settings_of(variant), SPACE, LONGEST)
    revived(again, state, trials)
    restored = Stage(again, undisturbed.search_alg, trials, dict(undisturbed.steps))
    undisturbed.run(100)
    restored.run(100)
    assert restored.story == undisturbed.story[told:]
    assert told < len(undisturbed.story) or variant == "asha"


@pytest.mark.parametrize("variant", VARIANTS)
def test_trials_that_come_back_one_by_one_are_known_again(variant: str) -> None:
    """As Ray restores an experiment: each trial is added again, the finished ones too, all others to be started."""
    stage = staged(settings_of(variant), drawn(8))
    stage.run(9)
    again = scheduler(settings_of(variant), SPACE, LONGEST)
    again.restore_state(stage.scheduler.state())
    restored = Stage(again, stage.search_alg, steps={})
    paused = {trial.trial_id for trial in stage.trials if trial.status == Trial.PAUSED}
    for trial in reversed(stage.trials):
        back = copied(trial)
        if not trial.is_finished():
            back.set_status(Trial.PENDING)
        restored.add(back)
        restored.steps[trial.trial_id] = stage.steps[trial.trial_id]
    again._awake(restored)
    assert {trial.trial_id for trial in restored.trials if trial.status == Trial.PAUSED} == paused
    restored.run(200)
    assert [trial.status for trial in restored.trials] == [Trial.TERMINATED] * 8


@pytest.mark.parametrize("variant", VARIANTS)
def test_trials_that_ended_or_vanished_meanwhile_are_not_waited_for(variant: str) -> None:
    stage = staged(settings_of(variant), drawn(8))
    stage.run(3)
    again = scheduler(settings_of(variant), SPACE, LONGEST)
    back = [copied(trial) for trial in stage.trials[1:]]
    back[0].set_status(Trial.ERROR)
    revived(again, stage.scheduler.state(), back)
    restored = Stage(again, stage.search_alg, back, dict(stage.steps))
    restored.run(200)
    assert {trial.status for trial in back[1:]} == {Trial.TERMINATED}
    restored.add(trial_of("t_00001", stage.trials[0].config))
    restored.run(50)
    assert restored.trials[-1].is_finished(), "the one that vanished is made again"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_trial_that_ended_is_not_repeated_though_the_snapshot_does_not_say_so(variant: str) -> None:
    stage = staged(settings_of(variant), drawn(8))
    while not (ended := {trial.trial_id for trial in stage.trials if trial.is_finished()}):
        stage.run(1)
    back = [copied(trial) for trial in stage.trials]
    for trial in back:
        trial.set_status(Trial.PENDING)
    again = scheduler(settings_of(variant), SPACE, LONGEST)
    revived(again, stage.scheduler.state(), back)
    restored = Stage(again, stage.search_alg, back, dict(stage.steps))
    restored.run(200)
    assert {trial.status for trial in back} == {Trial.TERMINATED}
    assert ended.isdisjoint({id for id, *_ in restored.story})


@pytest.mark.parametrize("variant", ["asha", "hyperband", "bohb", "median_stopping"])
def test_a_trial_whose_end_was_decided_when_the_driver_died_is_stopped_at_once(variant: str) -> None:
    stage = staged(settings_of(variant), drawn(16))
    stage.dies_at_stop = True
    with pytest.raises(SystemExit):
        stage.run(200)
    id = stage.story[-1][0]
    back = [copied(trial) for trial in stage.trials]
    again = scheduler(settings_of(variant), SPACE, LONGEST)
    revived(again, stage.scheduler.state(), back)
    restored = Stage(again, stage.search_alg, back, dict(stage.steps))
    restored.run(200)
    assert [what for trial, _, what, *_ in restored.story if trial == id] == ["STOP", "ended"]
    assert [trial.status for trial in back] == [Trial.TERMINATED] * 16


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_trial_that_is_tried_again_stays_in_its_place(variant: str) -> None:
    stage = staged(settings_of(variant), drawn(8))
    stage.run(3)
    while not (running := [trial for trial in stage.trials if trial.status == Trial.RUNNING]):
        stage.run(1)
    failed = running[0]
    stage.scheduler.on_trial_error(stage, failed)
    failed.set_status(Trial.PENDING)
    stage.scheduler.on_trial_add(stage, failed)
    stage.run(200)
    assert [trial.status for trial in stage.trials] == [Trial.TERMINATED] * 8


def test_a_choice_goes_through_those_trials_alone_that_have_not_ended() -> None:
    offered: list[list[str]] = []

    class Watched(FIFOScheduler):
        def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
            offered.append([trial.trial_id for trial in tune_controller.get_trials()])
            return super().choose_trial_to_run(tune_controller)

    watched: Any = Watched
    stage = Stage(Lasting(watched(), 0), ends=dict.fromkeys("abcde", 1))
    for id in "abcde":
        stage.add(trial_of(id, drawn(1)[0]))
    # The first fails and is tried again: it is the first still.
    stage.scheduler.on_trial_error(stage, stage.trials[0])
    stage.scheduler.on_trial_add(stage, stage.trials[0])
    stage.run(3)
    assert ["".join(ids) for ids in offered] == ["abcde", "abcde", "cde", "cde", "e", "e"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_decides_the_same_whatever_else_draws_numbers(variant: str) -> None:
    def states() -> str:
        return f"{random.getstate()} {np.random.get_state()}"

    stories = []
    for disturbed in (1, 2):
        random.seed(disturbed)
        np.random.seed(disturbed)
        stage = staged(settings_of(variant, seed=5), drawn(8))
        before = states()
        stage.run(100)
        assert states() == before
        stories.append(stage.story)
    assert stories[0] == stories[1]


def copied(trial: Trial) -> Trial:
    """Return a trial as it comes out of an experiment's snapshot: another object."""
    other = trial_of(trial.trial_id, trial.config)
    other.set_status(trial.status)
    other.run_metadata.last_result = dict(trial.last_result)
    keep(other, trial.checkpoint)
    return other


def population(kind: str, **options: Any) -> tuple[Stage, Population]:
    stage = staged(tune(scheduler={kind: {"perturbation_interval": 2, **options}}), drawn(8))
    assert isinstance(stage.scheduler.base, Population)
    return stage, stage.scheduler.base


@pytest.mark.parametrize(("kind", "seeds"), [("pbt", 6), ("pb2", 1)])
@pytest.mark.parametrize("synch", [False, True])
def test_what_is_mutated_stays_in_its_range_and_of_its_type(kind: str, seeds: int, synch: bool) -> None:
    narrow = Space.of({**WIDE, DECAY: {"uniform": [0.35, 0.42]}})
    parameters = {one.key: one for one in narrow.parameters}
    configs = drawn(8, space=narrow)
    seen: list[Mapping[str, Any]] = []
    for seed in range(seeds):
        settings = tune(scheduler={kind: {"perturbation_interval": 3, "synch": synch}}, seed=seed)
        stage = staged(settings, configs, narrow)
        stage.run(120)
        assert isinstance(stage.scheduler.base, Population)
        assert stage.scheduler.base.exploits
        for exploit in stage.scheduler.base.exploits:
            seen.append(exploit.config)
            assert exploit.trial != exploit.donor
            assert exploit.time in range(3, LONGEST + 1)
    for config in seen:
        assert {type(config[key]) for key in (BATCH, HEAD)} == {int}
        assert {type(config[key]) for key in (RATE, DECAY)} == {float}
        assert all(parameters[key].takes(config[key]) for key in parameters), config
    # A fifth more or less leaves a range as narrow as that.
    assert {0.35, 0.42} & {config[DECAY] for config in seen}
    assert {config[DECAY] for config in seen} - {config[DECAY] for config in configs} - {0.35, 0.42}
    assert kind == "pb2" or len({config[BATCH] for config in seen}) > 1


@pytest.mark.parametrize(("kind", "option"), [("pbt", "hyperparam_mutations"), ("pb2", "hyperparam_bounds")])
def test_only_the_listed_keys_are_mutated(kind: str, option: str) -> None:
    stage, base = population(kind, **{option: [DECAY]})
    stage.run(100)
    values = {key: {config[key] for config in drawn(8)} for key in SPACE.bounds().keys() | {BATCH, HEAD}}
    assert base.exploits
    for exploit in base.exploits:
        assert exploit.config[DECAY] not in values[DECAY]
        assert all(exploit.config[key] in values[key] for key in (RATE, BATCH, HEAD))


def test_pb2_looks_for_a_logarithmic_value_in_logarithms() -> None:
    rates = []
    for seed in range(2):
        settings = tune(scheduler={"pb2": {"perturbation_interval": 3, "hyperparam_bounds": [RATE]}}, seed=seed)
        stage = staged(settings, drawn(8))
        stage.run(100)
        assert isinstance(stage.scheduler.base, Population)
        rates += [exploit.config[RATE] for exploit in stage.scheduler.base.exploits]
    # Even over the range itself, 9 of 10 would be above 0.01.
    assert sum(rate < 0.01 for rate in rates) > len(rates) / 4


@pytest.mark.parametrize(("kind", "option"), [("pbt", "hyperparam_mutations"), ("pb2", "hyperparam_bounds")])
def test_clones_of_the_base_are_mutated_though_it_lies_outside_of_the_space(kind: str, option: str) -> None:
    settings = tune(scheduler={kind: {"perturbation_interval": 2, option: [RATE]}})
    base = {RATE: 0.0, BATCH: 8, DECAY: 0.4, HEAD: 1, ORIGIN: "default"}
    stage = staged(settings, [base, *({**config, DECAY: 9.0} for config in drawn(4))])
    stage.run(40)
    assert isinstance(stage.scheduler.base, Population)
    clones = [exploit for exploit in stage.scheduler.base.exploits if exploit.donor == "t_00001"]
    assert clones
    assert {clone.config[ORIGIN] for clone in clones} == {"model"}
    assert all(WIDE[RATE]["loguniform"][0] <= clone.config[RATE] for clone in clones)


@pytest.mark.parametrize("kind", ["pbt", "pb2"])
def test_what_is_tried_first_has_numbers_where_a_population_mutates_them(kind: str) -> None:
    base = {"training": {"learning_rate": 0.01, "batch": 8, "weight_decay": None, "head": 1}}
    settings: dict[str, Any] = {"perturbation_interval": 2}
    with pytest.raises(ConfigError, match=r"mutates training\.weight_decay, and there it is no number") as error:
        search(tune(scheduler={kind: settings}, baseline=True), base=base)
    assert error.value.problems[0].setting == "tune.baseline"
    option = "hyperparam_mutations" if kind == "pbt" else "hyperparam_bounds"
    assert search(tune(scheduler={kind: {**settings, option: [RATE]}}, baseline=True), base=base)


def test_a_synchronous_population_does_not_wait_for_a_trial_that_ended() -> None:
    stage, _ = population("pbt", synch=True)
    stage.ends = {"t_00002": 1, "t_00005": 3}
    stage.run(300)
    assert [trial.status for trial in stage.trials] == [Trial.TERMINATED] * 8


def test_checkpoints_that_others_may_go_on_from_are_told() -> None:
    stage, base = population("pbt")
    assert base.checkpoints() == set()
    stage.run(20)
    assert base.checkpoints()
    assert all(path.startswith("/checkpoints/t_") for path in base.checkpoints())


def test_what_is_longest_is_the_runs_steps_where_nothing_else_is_said() -> None:
    def longest(max_t: int | None, options: dict[str, Any]) -> Any:
        return vars(scheduler(tune(scheduler={"asha": options}), SPACE, max_t).base)["_max_t"]

    assert longest(500, {}) == 500
    assert longest(500, {"max_t": 100}) == 100
    assert longest(500, {"max_t": 3, "time_attr": "epoch"}) == 3


def test_metric_mode_and_time_are_the_sweeps() -> None:
    for name, options in SETTINGS.items():
        built: Lasting = scheduler(tune(scheduler={name: options}, mode="max"), SPACE, LONGEST)
        if name != "fifo":
            assert (built.metric, vars(built.base)["_mode"], vars(built.base)["_time_attr"]) == (
                "eval_loss",
                "max",
                "step",
            )
        assert built.set_search_properties(None, None)
        assert not built.set_search_properties("other", "min")


def test_several_metrics_have_no_scheduler_but_the_one_that_does_nothing() -> None:
    several: dict[str, Any] = {"metric": ["eval_loss", "eval_runtime"], "mode": ["min", "min"]}
    assert scheduler(tune(**several), SPACE, LONGEST)
    with pytest.raises(ConfigError, match="it decides by one metric"):
        scheduler(tune(**several, scheduler="asha"), SPACE, LONGEST)
