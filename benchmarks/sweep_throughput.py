"""16 short trials, two at a time: raytrainer tune beside transformers' hyperparameter_search with Ray and with Optuna.

All train the same 16 learning rates with the same model, tokenised data and training arguments, each in a process of
its own from its start to its end, in turn. transformers' backend "ray" has two trials at a time, "optuna" one. Pure
training is what Trainer.train() takes for the same 16, in two warm processes at a time (for Optuna in one).

Overhead of a trial: wall time x trials at a time / trials, less pure training. Once warm: the same from the moment at
which as many trials have ended as there are at a time. Run: python benchmarks/sweep_throughput.py --help
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from figures import Goal, conclude, machine, parser
from sweep_task import METRIC, environment, tune, write_base, write_sweep

TRIALS, AT_ONCE = 16, 2
RATES = [round(1e-4 * 1.4**i, 8) for i in range(TRIALS)]
PEERS = {"transformers ray": AT_ONCE, "transformers optuna": 1}


def trainer(base: Path, folder: Path, clock: Path | None) -> Any:
    """Build transformers' Trainer with what raytrainer's task makes of the same config: model, data, metrics."""
    from transformers import Trainer, TrainingArguments

    from raytrainer.checkpoints import Store
    from raytrainer.config.schema import TASKS
    from raytrainer.tasks.factory import TaskFactory

    config: Any = TASKS["text-classification"].model_validate(yaml.safe_load(base.read_text()))
    arguments = TrainingArguments(
        str(folder / "out"), use_cpu=True, report_to="none", disable_tqdm=True, **config.training
    )
    made: Any = TaskFactory(config, Store(str(folder / "run")), Store(str(base.parent / "cache")))(arguments)
    kind, settings = type(made.model), made.model.config
    return Trainer(
        model_init=lambda trial=None: kind(settings),
        args=arguments,
        train_dataset=made.train_dataset,
        eval_dataset=made.eval_dataset,
        processing_class=made.processing_class,
        data_collator=made.data_collator,
        compute_metrics=made.compute_metrics,
        callbacks=[clock_into(clock)] if clock else None,
    )


def clock_into(file: Path) -> Any:
    """Return a callback that notes when a training ends."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            with file.open("a") as lines:
                lines.write(f"{time.time()}\n")

    return Clock()


# Each in a process of its own


def pure(base: Path, folder: Path, part: int, of: int) -> None:
    """Train one of ``of`` parts of the configurations; write what each ``train()`` took, but for a first to warm up."""
    made = trainer(base, folder, None)
    made.train()
    seconds = []
    for rate in RATES[part::of]:
        made.args.learning_rate = rate
        began = time.perf_counter()
        made.train()
        seconds.append(time.perf_counter() - began)
    (folder / f"pure-{of}-{part}.json").write_text(json.dumps(seconds))


def with_ray(base: Path, folder: Path) -> None:
    import ray
    from ray import tune as ray_tune

    ray.init(address="local", num_cpus=AT_ONCE, include_dashboard=False)
    best = trainer(base, folder, folder / "ends").hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": ray_tune.grid_search(RATES)},
        compute_objective=lambda metrics: metrics[METRIC],
        n_trials=1,  # samples of the grid of 16
        direction="maximize",
        backend="ray",
        resources_per_trial={"cpu": 1},
        storage_path=str(folder / "ray"),
    )
    (folder / "best.json").write_text(json.dumps(best.objective))


def with_optuna(base: Path, folder: Path) -> None:
    import optuna

    best = trainer(base, folder, folder / "ends").hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", RATES)},
        compute_objective=lambda metrics: metrics[METRIC],
        n_trials=TRIALS,
        direction="maximize",
        backend="optuna",
        sampler=optuna.samplers.GridSampler({"learning_rate": RATES}),
    )
    (folder / "best.json").write_text(json.dumps(best.objective))


# The driver


def begin(base: Path, folder: Path, *party: str) -> subprocess.Popen[bytes]:
    """Start this file as another process that is one party."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--party", *party, "--base", str(base), "--folder", str(folder)]
    with (folder / f"{'-'.join(party)}.log").open("w") as log:
        return subprocess.Popen(command, env=environment(), stdout=log, stderr=subprocess.STDOUT)


def wait(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        if process.wait():
            sys.exit(f"{process.args!r} ended with {process.returncode}: see its log")


def measure_pure(base: Path, folder: Path, at_once: int) -> float:
    wait(*(begin(base, folder, "pure", str(part), str(at_once)) for part in range(at_once)))
    parts = [json.loads(file.read_text()) for file in folder.glob(f"pure-{at_once}-*.json")]
    return statistics.mean(float(seconds) for part in parts for seconds in part)


def measure_peer(name: str, base: Path, folder: Path) -> dict[str, Any]:
    began = time.time()
    wait(begin(base, folder, name))
    wall = time.time() - began
    ends = [float(line) for line in (folder / "ends").read_text().split()]
    return figures(wall, ends, PEERS[name], json.loads((folder / "best.json").read_text()))


def measure_raytrainer(base: Path, number: int) -> dict[str, Any]:
    space = {"training.learning_rate": {"grid": RATES}}
    sweep = write_sweep(base, f"throughput-{number}", space, {"search": "grid", "scheduler": "fifo", "num_samples": 1})
    began = time.time()
    trials = tune(sweep)
    wall = time.time() - began
    ends = [trial["began"] + trial["seconds"] for trial in trials]
    return figures(wall, ends, AT_ONCE, max(trial["history"][-1]["metrics"][METRIC] for trial in trials))


def figures(wall: float, ends: list[float], at_once: int, best: float) -> dict[str, Any]:
    assert len(ends) == TRIALS, f"{len(ends)} trials ended"
    ends = sorted(ends)
    warm = (ends[-1] - ends[at_once - 1]) * at_once / (TRIALS - at_once)
    return {"wall_s": wall, "a_trial_s": wall * at_once / TRIALS, "a_warm_trial_s": warm, "best": best}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=2, help="how often each of them runs")
    options.add_argument("--steps", type=int, default=40, help="optimizer steps of a trial")
    options.add_argument("--peers-only", action="store_true", help="leave raytrainer out")
    options.add_argument("--party", nargs="+", help=argparse.SUPPRESS)
    options.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args()
    if given.party:
        kind, *numbers = given.party
        parties: dict[str, Any] = {"pure": pure, "transformers ray": with_ray, "transformers optuna": with_optuna}
        parties[kind](given.base, given.folder, *map(int, numbers))
        return
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="sweep-throughput-"))
    base = write_base(folder, given.steps, evaluations=1)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in ([] if given.peers_only else ["raytrainer"])}
    measured |= {name: [] for name in PEERS}
    for number in range(given.rounds):
        of = {at_once: measure_pure(base, folder / f"pure-{number}", at_once) for at_once in (1, AT_ONCE)}
        for name, runs in measured.items():
            run = measure_raytrainer(base, number) if name == "raytrainer" else {}
            run = run or measure_peer(name, base, folder / f"{name.replace(' ', '-')}-{number}")
            pure_s = of[PEERS.get(name, AT_ONCE)]
            overheads = {"overhead_s": run["a_trial_s"] - pure_s, "warm_overhead_s": run["a_warm_trial_s"] - pure_s}
            runs.append({**run, "pure_s": pure_s, **overheads})
            print(f"round {number}  {name:20}  {rounded(runs[-1])}", flush=True)
    summary = {name: summarise(runs) for name, runs in measured.items()}
    for name, result in summary.items():
        print(f"{name:20}  {result}", flush=True)
    goals = []
    if not given.peers_only:
        ours, theirs = summary["raytrainer"], summary["transformers ray"]
        ratio = ours["wall_s"]["median"] / theirs["wall_s"]["median"]
        goals = [
            Goal("wall time of a sweep, of transformers' with Ray", ratio, 0.5),
            Goal("s, overhead of a warm trial", ours["warm_overhead_s"]["median"], 1.5),
        ]
    conclude("sweep_throughput", summary, goals, begun, given.json)


def rounded(run: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) for name, value in run.items()}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    values = {name: [run[name] for run in runs] for name in runs[0]}
    return {
        name: rounded({"median": statistics.median(each), "from": min(each), "to": max(each)})
        for name, each in values.items()
    }


if __name__ == "__main__":
    main()
