"""A clone goes on from a donor's checkpoint with arguments of its own, and the optimizer steps with these."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, get_scheduler

from raytrainer.adoption import Adoption
from raytrainer.continuation import Continuation
from raytrainer.errors import ArgumentsError
from raytrainer.meaning import meaning_of
from raytrainer.mutation import adopted, keeps_moments, without_effect
from tests.ray.recipes import classify_words

pytestmark = pytest.mark.trains

DONE, STEPS = 5, 12
DONOR: dict[str, Any] = {
    "max_steps": STEPS,
    "learning_rate": 5e-3,
    "weight_decay": 0.1,
    "per_device_train_batch_size": 4,
    "lr_scheduler_type": "linear",
    "save_steps": DONE,
    "seed": 7,
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {"warmup_steps": 7},
    "cosine": {},
    "constant": {},
    "constant_with_warmup": {"warmup_steps": 8},
    "polynomial": {"lr_scheduler_kwargs": {"power": 2.0, "lr_end": 1e-5}},
    "cosine_with_restarts": {"lr_scheduler_kwargs": {"num_cycles": 3}},
    "inverse_sqrt": {"warmup_steps": 3},
    "cosine_with_min_lr": {"lr_scheduler_kwargs": {"min_lr": 1e-4}, "warmup_steps": 2},
    "cosine_warmup_with_min_lr": {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "warmup_steps": 7},
    "warmup_stable_decay": {"lr_scheduler_kwargs": {"num_decay_steps": 4}, "warmup_steps": 2},
}


class Said:
    """An outbox that keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@dataclass
class Seen:
    """What a training came to: each optimizer step's groups, what it began with, and where it ended."""

    trainer: Trainer
    said: Any = field(default_factory=Said)
    groups: list[list[dict[str, Any]]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    moments: dict[str, Any] = field(default_factory=dict)
    state: TrainerState = field(default_factory=TrainerState)
    rows: list[list[list[int]]] = field(default_factory=list)

    def each(self, key: str) -> list[list[Any]]:
        return [[group[key] for group in groups] for groups in self.groups]


class Watching(TrainerCallback):
    """The calls of recovery's callback that have to do with it, and a look at what they come to."""

    def __init__(self, seen: Seen, folder: Path | None, adoption: Adoption | None) -> None:
        self.seen, self.folder, self.adoption = seen, folder, adoption
        self.continuation = Continuation(seen.trainer)
        self.entering = folder is not None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.continuation.begin()
        if self.adoption is not None:
            self.adoption.begin(state)
        if self.folder is not None:
            self.continuation.load(self.folder)
        self.seen.weights = copy.deepcopy(dict(self.seen.trainer.model.state_dict()))
        self.seen.moments = copy.deepcopy(kwargs["optimizer"].state_dict()["state"])
        self.seen.state = copy.deepcopy(state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.entering and self.folder is not None:
            self.continuation.reenter_epoch(state, self.folder)
        else:
            self.continuation.begin_epoch()
        self.entering = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        self.continuation.save(folder)
        (folder / "meaning.json").write_text(json.dumps(meaning_of(self.seen.trainer)))


def trained(
    folder: Path,
    arguments: dict[str, Any],
    donor: Path | None = None,
    adopt: bool = True,
    kind: type[Trainer] = Trainer,
    **given: Any,
) -> Seen:
    """Train from the start, or go on from a donor's checkpoint."""
    args = TrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, report_to="none", **arguments)
    inputs = {**classify_words(), **given}
    trainer = kind(args=args, **inputs)
    seen = Seen(trainer)
    collate = trainer.data_collator

    def note_rows(rows: list[dict[str, Any]]) -> Any:
        seen.rows.append([row["input_ids"] for row in rows])
        return collate(rows)

    trainer.data_collator = note_rows
    adoption = None
    if donor is not None and adopt:
        before = json.loads((donor / "meaning.json").read_text())
        adoption = Adoption(trainer, before, meaning_of(trainer), True, seen.said)
    callback = Watching(seen, donor, adoption)
    trainer.add_callback(callback)
    watch = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.groups.append(groups(optimizer)))
    try:
        with callback.continuation.watching():
            if adoption is None:
                trainer.train(resume_from_checkpoint=str(donor) if donor else None)
            else:
                with adoption.watching():
                    trainer.train(resume_from_checkpoint=str(donor))
    finally:
        watch.remove()
    return seen


def groups(optimizer: Any) -> list[dict[str, Any]]:
    return [copy.deepcopy({k: v for k, v in group.items() if k != "params"}) for group in optimizer.param_groups]


@pytest.fixture(scope="module")
def donate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Seen, Path]]:
    """Train a donor with the arguments given, once for each, and tell its training and its checkpoint."""
    made: dict[str, tuple[Seen, Path]] = {}

    def train(**changes: Any) -> tuple[Seen, Path]:
        key = repr(sorted(changes.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("donor")
            made[key] = trained(folder, {**DONOR, **changes}), folder / f"checkpoint-{DONE}"
        return made[key]

    return train


def schedule(arguments: dict[str, Any]) -> list[float]:
    """Learning rates of all steps, from transformers' own schedule over an optimizer that nothing restored."""
    args = TrainingArguments("unused", use_cpu=True, **arguments)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    warmup = args.get_warmup_steps(args.max_steps)
    kwargs = args.lr_scheduler_kwargs
    moving = get_scheduler(args.lr_scheduler_type, optimizer, warmup, args.max_steps, scheduler_specific_kwargs=kwargs)
    rates = []
    for _ in range(args.max_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        moving.step()
    return rates


def equal(one: Any, other: Any) -> bool:
    """Bitwise, in whatever nesting."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_clones_learning_rate_is_its_own_times_the_schedule(
    name: str, donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    own = {"lr_scheduler_type": name, **SCHEDULES[name]}
    _, checkpoint = donate(**own)
    arguments = {**DONOR, **own, "learning_rate": 1.2e-3}
    clone = trained(tmp_path, arguments, checkpoint)
    expected = schedule(arguments)
    assert clone.each("lr") == [[rate, rate] for rate in expected[DONE:]]
    assert len(clone.groups) == STEPS - DONE
    assert clone.trainer.lr_scheduler.base_lrs == [1.2e-3, 1.2e-3]
    assert clone.said.warnings == []


@pytest.mark.parametrize("name", SCHEDULES)
def test_another_kind_of_schedule_goes_on_at_the_donors_step(
    name: str, donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    _, checkpoint = donate()
    changes = {"lr_scheduler_type": name, **SCHEDULES[name], "max_steps": 9, "learning_rate": 2e-3}
    clone = trained(tmp_path, {**DONOR, **changes}, checkpoint)
    assert clone.each("lr") == [[rate, rate] for rate in schedule({**DONOR, **changes})[DONE:]]


def test_linear_cosine_and_constant_by_hand(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    _, checkpoint = donate()
    rest = range(DONE, STEPS)
    by_hand = {
        "linear": [(STEPS - step) / STEPS for step in rest],
        "cosine": [0.5 * (1 + torch.tensor(torch.pi * step / STEPS).cos().item()) for step in rest],
        "constant": [1.0 for step in rest],
    }
    for name, share in by_hand.items():
        arguments = {**DONOR, "lr_scheduler_type": name, "learning_rate": 1e-4}
        rates = [lr for lr, _ in trained(tmp_path, arguments, checkpoint).each("lr")]
        assert rates == pytest.approx([1e-4 * each for each in share], rel=1e-6)


def test_without_adoption_the_donors_learning_rate_stays(
    donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    donor, checkpoint = donate()
    resumed = trained(tmp_path, {**DONOR, "learning_rate": 1e-4, "weight_decay": 0.4}, checkpoint, adopt=False)
    assert resumed.each("lr") == donor.each("lr")[DONE:]
    assert resumed.each("weight_decay") == donor.each("weight_decay")[DONE:]


def test_decay_and_betas_are_the_clones_group_by_group(
    donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    _, checkpoint = donate()
    changes = {"weight_decay": 0.4, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6}
    clone = trained(tmp_path, {**DONOR, **changes}, checkpoint)
    rest = STEPS - DONE
    assert clone.each("weight_decay") == [[0.4, 0.0]] * rest
    assert clone.each("betas") == [[(0.8, 0.95)] * 2] * rest
    assert clone.each("eps") == [[1e-6] * 2] * rest


def test_weights_and_moments_are_the_donors(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    _, checkpoint = donate()
    clone = trained(tmp_path, {**DONOR, "learning_rate": 1e-4, "weight_decay": 0.4}, checkpoint)
    from safetensors.torch import load_file

    assert equal(clone.weights, load_file(checkpoint / "model.safetensors"))
    assert equal(clone.moments, torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"])
    assert clone.moments


@pytest.mark.parametrize("name", [*SCHEDULES, "adafactor", "sgd", "accumulation"])
def test_an_unchanged_clone_is_the_undisturbed_training(
    name: str, donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    other: dict[str, dict[str, Any]] = {
        "adafactor": {"optim": "adafactor"},
        "sgd": {"optim": "sgd", "optim_args": "momentum=0.9"},
        "accumulation": {"gradient_accumulation_steps": 3},
    }
    own = other.get(name) or {"lr_scheduler_type": name, **SCHEDULES[name]}
    donor, checkpoint = donate(**own)
    clone = trained(tmp_path, {**DONOR, **own}, checkpoint)
    assert clone.groups == donor.groups[DONE:]
    assert equal(dict(clone.trainer.model.state_dict()), dict(donor.trainer.model.state_dict()))
    assert equal(clone.trainer.optimizer.state_dict(), donor.trainer.optimizer.state_dict())
    assert clone.trainer.lr_scheduler.state_dict() == donor.trainer.lr_scheduler.state_dict()
    assert clone.said.warnings == []


PLATEAU: dict[str, Any] = {
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "lr_scheduler_kwargs": {"factor": 0.5, "patience": 0, "threshold": 10.0},  # every evaluation halves
    "eval_strategy": "steps",
    "eval_steps": 1,
    "metric_for_best_model": "loss",
}


def test_a_schedule_that_follows_a_metric_keeps_what_it_has_reduced(
    donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    donor, checkpoint = donate(**PLATEAU)
    same = trained(tmp_path, {**DONOR, **PLATEAU}, checkpoint)
    assert same.groups == donor.groups[DONE:]
    clone = trained(tmp_path, {**DONOR, **PLATEAU, "learning_rate": 1e-2}, checkpoint)
    assert [lr for lr, _ in clone.each("lr")] == [1e-2 * 0.5**step for step in range(DONE, STEPS)]


def test_between_plateau_and_a_schedule_of_steps(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    _, checkpoint = donate(**{**PLATEAU, "eval_steps": 2})
    arguments = {**DONOR, "learning_rate": 1e-3}
    clone = trained(tmp_path, arguments, checkpoint)
    assert [lr for lr, _ in clone.each("lr")] == schedule(arguments)[DONE:]
    _, checkpoint = donate()
    clone = trained(tmp_path, {**DONOR, **PLATEAU, "learning_rate": 1e-3}, checkpoint)
    assert [lr for lr, _ in clone.each("lr")] == [1e-3 * 0.5**step for step in range(STEPS - DONE)]
    assert clone.said.warnings == ["ReduceLROnPlateau begins anew: the checkpoint's schedule followed no metric"]


class TwoPhases(Trainer):
    """Schedules of torch's own, one after the other; and momentum that goes with it."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        first = torch.optim.lr_scheduler.ConstantLR(self.optimizer, 0.25, total_iters=3)
        second = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        both: Any = torch.optim.lr_scheduler.SequentialLR(self.optimizer, [first, second], milestones=[3])
        self.lr_scheduler, self._created_lr_scheduler = both, True
        return both


class OneCycle(Trainer):
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        rate = self.args.learning_rate
        cycle: Any = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, total_steps=STEPS)
        self.lr_scheduler, self._created_lr_scheduler = cycle, True
        return cycle


@pytest.mark.parametrize("kind", [TwoPhases, OneCycle])
def test_schedules_of_torchs_own(kind: type[Trainer], tmp_path: Path) -> None:
    trained(tmp_path / "donor", DONOR, kind=kind)
    changed = {**DONOR, "learning_rate": 1e-3}
    clone = trained(tmp_path / "clone", changed, tmp_path / f"donor/checkpoint-{DONE}", kind=kind)
    anew = trained(tmp_path / "anew", changed, kind=kind)
    assert clone.groups == anew.groups[DONE:]


class OwnRates(Trainer):
    """Looks at no argument."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            halves = list(self.model.parameters())
            self.optimizer = torch.optim.SGD([{"params": halves[:3], "lr": 0.01}, {"params": halves[3:]}], lr=0.02)
        return self.optimizer


def test_a_programs_own_optimizer_that_looks_at_no_argument_is_told(tmp_path: Path) -> None:
    trained(tmp_path / "donor", DONOR, kind=OwnRates)
    changed = {**DONOR, "learning_rate": 1e-3, "weight_decay": 0.3, "adam_beta1": 0.5}
    clone = trained(tmp_path / "clone", changed, tmp_path / f"donor/checkpoint-{DONE}", kind=OwnRates)
    assert clone.said.warnings == [
        "the optimizer is the program's own, or takes no such argument: learning_rate=0.001 has no effect: its groups"
        " have [0.01, 0.02]; weight_decay=0.3 has no effect: its groups have [0, 0]; adam_beta1=0.5 has no effect: its"
        " groups have [None, None]"
    ]


def test_an_optimizer_handed_in_is_what_the_program_made_it(tmp_path: Path) -> None:
    def program(folder: Path, rate: float, donor: Path | None = None) -> Seen:
        inputs = classify_words()
        optimizer = torch.optim.SGD(inputs["model"].parameters(), lr=rate, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4)
        return trained(folder, DONOR, donor, **inputs, optimizers=(optimizer, scheduler))

    program(tmp_path / "donor", 0.1)
    clone = program(tmp_path / "clone", 0.05, tmp_path / f"donor/checkpoint-{DONE}")
    assert clone.each("lr") == program(tmp_path / "anew", 0.05).each("lr")[DONE:]
    assert all("momentum_buffer" in moments for moments in clone.moments.values())


def test_another_optimizer_begins_with_moments_of_its_own(
    donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    _, checkpoint = donate()
    arguments = {**DONOR, "optim": "adafactor", "learning_rate": 1e-3}
    clone = trained(tmp_path, arguments, checkpoint)
    assert clone.moments == {}
    assert clone.each("lr") == [[rate, rate] for rate in schedule(arguments)[DONE:]]
    assert clone.said.warnings == ["moments begin anew: the checkpoint's are not those of Adafactor"]


def test_fused_is_the_same_optimizer(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    _, checkpoint = donate(optim="adamw_torch")
    clone = trained(tmp_path, {**DONOR, "optim": "adamw_torch_fused"}, checkpoint)
    assert clone.moments
    assert clone.each("fused")[0] == [True, True]


def test_a_checkpoint_without_optimizer(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    _, checkpoint = donate(save_only_model=True)
    clone = trained(tmp_path, {**DONOR, "learning_rate": 1e-3}, checkpoint)
    assert [lr for lr, _ in clone.each("lr")] == schedule({**DONOR, "learning_rate": 1e-3})[DONE:]
    assert clone.said.warnings == ["moments begin anew: the checkpoint has no optimizer"]


# What is not the optimizer's


def test_steps_between_evaluations_and_batch_size_in_the_state_are_the_clones(
    donate: Callable[..., tuple[Seen, Path]], tmp_path: Path
) -> None:
    _, checkpoint = donate(logging_steps=4)
    changes = {"logging_steps": 0.5, "save_steps": 3, "eval_steps": 2, "eval_strategy": "steps", "max_steps": 10}
    clone = trained(tmp_path, {**DONOR, **changes, "per_device_train_batch_size": 8}, checkpoint)
    state = clone.state
    assert (state.logging_steps, state.save_steps, state.eval_steps, state.max_steps) == (5, 3, 2, 10)
    assert state.train_batch_size == 8
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-6",
        "checkpoint-9",
    ]
    assert [entry["step"] for entry in clone.trainer.state.log_history if "eval_loss" in entry] == [6, 8, 10]


def test_the_donors_best_metric_is_not_the_clones(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    evaluating = {"eval_strategy": "steps", "eval_steps": 5, "metric_for_best_model": "loss"}
    _, checkpoint = donate(**evaluating)
    assert json.loads((checkpoint / "trainer_state.json").read_text())["best_metric"] > 0
    clone = trained(tmp_path, {**DONOR, **evaluating}, checkpoint)
    assert (clone.state.best_metric, clone.state.best_global_step, clone.state.best_model_checkpoint) == (None,) * 3
    own = [
        entry["eval_loss"] for entry in clone.trainer.state.log_history if entry["step"] > DONE and "eval_loss" in entry
    ]
    assert clone.trainer.state.best_metric == min(own)


@pytest.mark.parametrize(
    ("donors", "clones", "epoch", "per_epoch"),
    [
        ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 8}, 5 / 8, 8),
        ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 2}, 5 / 32, 32),
        # The clone stands between two epochs, the donor does not; and the other way about.
        ({"per_device_train_batch_size": 8}, {"per_device_train_batch_size": 13}, 1.0, 5),
        ({"per_device_train_batch_size": 13}, {"per_device_train_batch_size": 8}, 5 / 8, 8),
        ({}, {"gradient_accumulation_steps": 4}, 5 / 4, 4),
        ({"gradient_accumulation_steps": 4}, {}, 5 / 16, 16),
    ],
)
@pytest.mark.parametrize("length", [{"max_steps": STEPS}, {"max_steps": -1, "num_train_epochs": 2}])
def test_with_another_batch_the_clone_goes_on_at_its_own_step_of_the_epoch(
    donors: dict[str, Any],
    clones: dict[str, Any],
    epoch: float,
    per_epoch: int,
    length: dict[str, Any],
    donate: Callable[..., tuple[Seen, Path]],
    tmp_path: Path,
) -> None:
    _, checkpoint = donate(**donors, **length)
    arguments = {**DONOR, **length, **clones, "save_steps": 100}
    clone = trained(tmp_path, arguments, checkpoint)
    assert clone.state.epoch == epoch
    total = STEPS if length["max_steps"] > 0 else 2 * per_epoch
    assert clone.trainer.state.global_step == max(total, DONE)
    assert len(clone.groups) == max(total - DONE, 0)
    # Its first epoch is made of as many examples as an epoch of this batch size has left by now.
    batch, accumulation = (
        clone.trainer.args.per_device_train_batch_size,
        clone.trainer.args.gradient_accumulation_steps,
    )
    left = per_epoch - DONE % per_epoch
    if total - DONE >= left:
        examples = len(classify_words()["train_dataset"])
        assert sum(map(len, clone.rows[: left * accumulation])) == examples - DONE % per_epoch * batch * accumulation


def test_smoothing_and_norm_are_the_clones(donate: Callable[..., tuple[Seen, Path]], tmp_path: Path) -> None:
    _, checkpoint = donate()
    plain = trained(tmp_path / "plain", {**DONOR, "logging_steps": 1}, checkpoint)
    norm = trained(tmp_path / "norm", {**DONOR, "logging_steps": 1, "max_grad_norm": 1e-9}, checkpoint)
    smooth = trained(tmp_path / "smooth", {**DONOR, "logging_steps": 1, "label_smoothing_factor": 0.5}, checkpoint)

    def losses(seen: Seen) -> list[float]:
        return [each["loss"] for each in seen.trainer.state.log_history if each["step"] > DONE and "loss" in each]

    assert losses(plain)[0] == losses(norm)[0] != losses(smooth)[0]
    assert losses(plain)[1:] != losses(norm)[1:]


# Decisions


def adam(**changes: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **changes)


def test_what_an_optimizer_counts_in_its_groups_stays() -> None:
    class Counting(torch.optim.Optimizer):
        def __init__(self, params: Iterator[torch.nn.Parameter], lr: float, warmup: int) -> None:
            super().__init__(params, {"lr": lr, "warmup": warmup, "k": 0, "largest": -1.0})

    optimizer = Counting(iter([torch.nn.Parameter(torch.zeros(1))]), 0.1, 10)
    saved = [{"lr": 0.2, "initial_lr": 0.4, "warmup": 5, "k": 70, "largest": 0.3, "params": [0], "of_old": 1}]
    fresh = [{"lr": 0.1, "initial_lr": 0.1, "warmup": 10, "k": 0, "largest": -1.0, "scale": 2}]
    assert adopted(saved, fresh, optimizer) == [
        {"lr": 0.1, "initial_lr": 0.1, "warmup": 10, "k": 70, "largest": 0.3, "params": [0], "of_old": 1, "scale": 2}
    ]


def test_whose_moments_are_kept() -> None:
    saved = adam().state_dict()["param_groups"]
    now = {"optim": "adamw_torch"}
    assert keeps_moments(saved, adam(), {}, now)
    assert keeps_moments(saved, adam(), {"optim": "adamw_torch_fused"}, now)
    assert not keeps_moments(saved, adam(), {"optim": "adamw_bnb_8bit"}, now)
    assert not keeps_moments(
        torch.optim.SGD(adam().param_groups[0]["params"]).state_dict()["param_groups"], adam(), {}, now
    )


def test_the_moments_of_groups_are_kept_together_or_not_at_all() -> None:
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)])
    now, saved = {"optim": "adamw_torch"}, optimizer.state_dict()["param_groups"]
    assert keeps_moments(saved, optimizer, {}, now)
    assert not keeps_moments(saved[:1], optimizer, {}, now)
    bare = [{name: value for name, value in group.items() if name != "params"} for group in saved]
    assert keeps_moments(bare, optimizer, {}, now)
    del saved[1]["amsgrad"]
    assert not keeps_moments(saved, optimizer, {}, now)


def test_what_reached_no_optimizer() -> None:
    before = {"learning_rate": 1.0, "weight_decay": 0.1, "adam_beta1": 0.9}
    saved = [{"initial_lr": 1.0, "weight_decay": 0.1, "betas": [0.9, 0.9]}]
    now = {"learning_rate": 2.0, "weight_decay": 0.2, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1}
    assert without_effect(before, now, saved, saved) == {
        "learning_rate": [1.0],
        "weight_decay": [0.1],
        "adam_beta1": [[0.9, 0.9]],
    }
    assert without_effect(before, now, saved, [{"initial_lr": 2.0, "weight_decay": 0.2, "betas": (0.8, 0.9)}]) == {}
    assert without_effect(before, now, saved, [{"initial_lr": 2.0, "weight_decay": 0.2, "betas": (0.9, 0.9)}]) == {
        "adam_beta1": [(0.9, 0.9)]
    }


def test_deepspeed_and_a_batch_size_that_is_sought_are_refused() -> None:
    args = types.SimpleNamespace(deepspeed={"zero": 1}, auto_find_batch_size=True)
    trainer: Any = types.SimpleNamespace(is_deepspeed_enabled=True, is_fsdp_enabled=True, args=args)

    def meaning(batch: int, optim: str) -> dict[str, Any]:
        return {"arguments": {"optim": optim}, "order": {"global batch": batch}}

    said: Any = Said()
    with pytest.raises(ArgumentsError) as refused:
        Adoption(trainer, meaning(4, "adamw_torch"), meaning(8, "sgd"), True, said)
    assert [problem.setting for problem in refused.value.problems] == ["deepspeed", "auto_find_batch_size", "optim"]
    trainer.is_deepspeed_enabled = False
    Adoption(trainer, meaning(4, "sgd"), meaning(4, "sgd"), True, said)
