"""Sweeps as their records tell them, made in memory: a loss over rate, batch size and weight decay, with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raytrainer.checkpoints import Store
from raytrainer.sweep.record_files import write_end, write_sweep, write_trial
from raytrainer.sweep.records import Change, End, Evaluation, SweepRecord, Trial, TrialRecord

BEGAN = 1.75e9
STEPS = 100
EVERY = 10
RATE, BATCH, DECAY = "training.learning_rate", "training.per_device_train_batch_size", "training.weight_decay"
SPACE = {RATE: "{loguniform: [0.0001, 0.01]}", BATCH: "{choice: [16, 32, 64]}", DECAY: "{uniform: [0, 0.1]}"}


@dataclass(frozen=True)
class Made:
    """A sweep's records."""

    sweep: SweepRecord
    trials: tuple[Trial, ...]

    def write(self, folder: Store) -> Store:
        write_sweep(folder, self.sweep)
        for trial in self.trials:
            if trial.damage is None:
                write_trial(folder, trial.record)
            else:
                folder.write(f"trials/{trial.record.number:05d}/trial.json", b'{"id": "a1b')
            if trial.end is not None:
                write_end(folder, trial.record.number, trial.end)
            for step in trial.checkpoints:
                name = f"trials/{trial.record.number:05d}/checkpoints/checkpoint-{step}/manifest.json"
                folder.write(name, b"{}")
        return folder


def floor(values: dict[str, Any]) -> float:
    """Return the loss that a configuration comes to after very many steps."""
    off: float = math.log10(values[RATE] / 2e-3)
    lowest: float = 0.4 + 0.5 * off**2 + 0.004 * abs(values[BATCH] - 32) / 16 + 2 * (values[DECAY] - 0.03) ** 2
    return lowest


def curve(values: dict[str, Any], random: np.random.Generator, noise: float = 0.01, steps: int = STEPS) -> list[float]:
    """Return the losses of a trial's evaluations; a rate that is too high diverges."""
    shift = noise * float(random.standard_normal())
    pace = 12 + 400 * max(0.0, 2e-3 - values[RATE]) * 10
    losses = [
        floor(values) + shift + 2 * math.exp(-step / pace) + noise / 4 * float(random.standard_normal())
        for step in range(EVERY, steps + 1, EVERY)
    ]
    if values[RATE] > 8e-3:
        losses[len(losses) // 2 :] = [math.nan] * (len(losses) - len(losses) // 2)
    return losses


def draw(random: np.random.Generator) -> dict[str, Any]:
    rate, decay = 10 ** float(random.uniform(-4, -2)), float(random.uniform(0, 0.1))
    return {RATE: rate, BATCH: int(random.choice([16, 32, 64])), DECAY: decay}


def trial(
    number: int, values: dict[str, Any], losses: list[float], end: End | None, began: float = BEGAN, **more: Any
) -> Trial:
    """Make a trial of losses, one every ten steps, half a second a step."""
    pace = 5.0 * (16 / values.get(BATCH, 16)) ** 0.3
    history = tuple(
        Evaluation(
            step=EVERY * i,
            epoch=i / 10,
            time=began + pace * i,
            seconds=pace * i,
            metrics={"eval_loss": loss, "eval_runtime": 0.3},
        )
        for i, loss in enumerate(losses, 1)
    )
    fields: dict[str, Any] = {"origin": "random", "max_steps": STEPS, "workers": 1, "gpus": 0.5, **more}
    record = TrialRecord(
        id=f"a1b2_{number - 1:05d}",
        number=number,
        sampled=values,
        values=values,
        arguments={"learning_rate": values.get(RATE)},
        began=began,
        seconds=pace * len(losses) + 1,
        history=history,
        **fields,
    )
    return Trial(record, end)


def sweep(**more: Any) -> SweepRecord:
    fields: dict[str, Any] = {
        **{"name": "dates-sweep", "metric": ["eval_loss"], "mode": ["min"], "search": {"random": {}}},
        **{"scheduler": {"asha": {"grace_period": 10}}, "seed": 42, "began": BEGAN, "ended": BEGAN + 300},
        **{"state": "finished", "space": SPACE, "concurrency": 4},
    }
    return SweepRecord(**{**fields, **more})


FINISHED = End("finished")


def asha(trials: int = 27, seed: int = 0, **more: Any) -> Made:
    """Random search with ASHA: at 10 and 30 steps a third goes on. Four at a time."""
    random = np.random.default_rng(seed)
    made: list[Trial] = []
    free, rungs = [BEGAN] * 4, {10: list[float](), 30: list[float]()}
    for number in range(1, trials + 1):
        values = draw(random)
        losses, end = curve(values, random), FINISHED
        for step, seen in rungs.items():
            value = losses[step // EVERY - 1]
            seen.append(value if math.isfinite(value) else math.inf)
            if seen[-1] > sorted(seen)[len(seen) // 3]:
                losses, end = losses[: step // EVERY], End("stopped", "asha")
                break
        began = free.pop(0)
        made.append(trial(number, values, losses, end, began, **more))
        free = sorted([*free, began + made[-1].record.seconds])
    best = min((t for t in made if t.end is FINISHED), key=lambda t: t.record.history[-1].metrics["eval_loss"])
    kept = [replace(t, checkpoints=(90, 100)) if t is best else t for t in made]
    return Made(sweep(ended=max(free)), tuple(kept))


def model_based(trials: int = 30, known: int = 10, seed: int = 1, noise: float = 0.01) -> Made:
    """A model-based search without a scheduler: ten random trials, then ones near the best."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(1, trials + 1):
        values = draw(random)
        if number > known:
            values = {RATE: 2e-3 * 10 ** float(random.normal(0, 0.1)), BATCH: 32, DECAY: 0.03}
        origin = "model" if number > known else "random"
        losses = curve(values, random, noise)
        made.append(trial(number, values, losses, FINISHED, BEGAN + 20 * number, origin=origin))
    return Made(sweep(search={"optuna": {}}, scheduler={"fifo": {}}), tuple(made))


def repeated(configurations: int = 6, repeats: int = 3, seed: int = 2, noise: float = 0.01) -> Made:
    """A grid of learning rates, each trained several times, the base configuration among them."""
    random = np.random.default_rng(seed)
    rates = [5e-4, *(10**power for power in np.linspace(-3.6, -2.2, configurations))]
    made: list[Trial] = []
    for group, rate in enumerate(rates):
        for _ in range(repeats):
            values = {RATE: float(rate), BATCH: 32, DECAY: 0.03}
            origin = "grid" if group else "default"
            number = len(made) + 1
            losses = curve(values, random, noise)
            made.append(trial(number, values, losses, FINISHED, BEGAN + 9 * number, origin=origin, group=group))
    record = sweep(search={"grid": {}}, scheduler={"fifo": {}}, repeats=repeats, space={RATE: "{grid: [...]}"})
    return Made(record, tuple(made))


def pbt(trials: int = 4, seed: int = 3) -> Made:
    """Population based training: every 20 steps the worst goes on from the best with another learning rate."""
    random = np.random.default_rng(seed)
    starts = [draw(random) for _ in range(trials)]
    rates = [values[RATE] for values in starts]
    reached = [2.5 + 0.1 * i for i in range(trials)]
    losses: list[list[float]] = [[] for _ in starts]
    changes: list[list[Change]] = [[] for _ in starts]
    for step in range(EVERY, STEPS + 1, EVERY):
        for i in range(trials):
            lowest = floor({**starts[i], RATE: rates[i]})
            reached[i] = lowest + (reached[i] - lowest) * 0.75 + 0.005 * float(random.standard_normal())
            losses[i].append(reached[i])
        if step % 20 == 0 and step < STEPS:
            worst, best = int(np.argmax(reached)), int(np.argmin(reached))
            rates[worst] = min(1e-2, rates[best] * float(random.choice([0.8, 1.2])))
            reached[worst] = reached[best]
            change = Change(step, {**starts[best], RATE: rates[worst]}, f"a1b2_{best:05d}", best + 1)
            changes[worst].append(change)
    made = [trial(i + 1, starts[i], losses[i], FINISHED, gpus=0.0, changes=tuple(changes[i])) for i in range(trials)]
    return Made(sweep(search={"random": {}}, scheduler={"pbt": {"perturbation_interval": 20}}), tuple(made))


def several_objectives(trials: int = 24, seed: int = 4) -> Made:
    """A model's accuracy and its speed, which a larger batch trades for it; the base configuration is the first."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(1, trials + 1):
        values = draw(random) if number > 1 else {RATE: 3e-4, BATCH: 16, DECAY: 0.0}
        one = trial(number, values, curve(values, random), FINISHED, BEGAN + 12 * number)
        speed = 100 * values[BATCH] ** 0.5 * float(random.uniform(0.6, 1.0))
        history = tuple(
            replace(
                e,
                metrics={
                    "eval_accuracy": 1 / (1 + e.metrics["eval_loss"] - 0.02 * values[BATCH] / 64),
                    "eval_samples_per_second": speed,
                },
            )
            for e in one.record.history
        )
        origin = "default" if number == 1 else "random"
        made.append(replace(one, record=replace(one.record, history=history, origin=origin)))
    record = sweep(metric=["eval_accuracy", "eval_samples_per_second"], mode=["max", "max"], scheduler={"fifo": {}})
    return Made(record, tuple(made))


HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"


def with_failures(seed: int = 5, text: str = "ValueError: per_device_train_batch_size=0") -> Made:
    """Trials that finished, failed after a while, failed at once, diverged, and left a torn record."""
    made = asha(12, seed)
    first, second, third = made.trials[:3]
    error = End("failed", "error", f"Traceback (most recent call last):\n{text}")
    broken = replace(first, record=replace(first.record, history=first.record.history[:1]), end=error)
    empty = replace(second, record=replace(second.record, history=(), seconds=2.0), end=error)
    torn = Trial(TrialRecord(id="", number=3, origin=""), damage=f"trial.json cannot be read: {text}")
    assert third.record.number == 3
    return replace(made, trials=(broken, empty, torn, *made.trials[3:]))


def hostile() -> Made:
    """A user's text everywhere that a user can put one, and all of it HTML that would run."""
    made = with_failures(text=HOSTILE)
    names = [HOSTILE, f"model.{HOSTILE}", "plain"]
    trials = tuple(
        replace(t, record=replace(t.record, sampled=more, values=more, origin=HOSTILE if i == 5 else t.record.origin))
        for i, t in enumerate(made.trials)
        for more in [{**t.record.values, HOSTILE: names[i % 3], "model.name": names[(i + 1) % 3]}]
    )
    record = replace(made.sweep, name=HOSTILE, search={HOSTILE: {}}, scheduler={HOSTILE: {}}, stopped_by=HOSTILE)
    return Made(replace(record, space={**SPACE, HOSTILE: HOSTILE, "model.name": HOSTILE}), trials)


def running(seed: int = 6) -> Made:
    """A sweep in its middle: some have ended, two train, one has not evaluated yet."""
    made = asha(12, seed)
    ended, (one, other, last) = made.trials[:-3], made.trials[-3:]
    training = [replace(t, record=replace(t.record, history=t.record.history[:4]), end=None) for t in (one, other)]
    begun = replace(last, record=replace(last.record, history=(), seconds=0.5), end=None)
    return Made(replace(made.sweep, state="running", ended=None), (*ended, *training, begun))


def none_yet() -> Made:
    """A sweep whose first trial has not begun."""
    return Made(sweep(state="running", ended=None), ())
