"""Does the driver's cost of a trial stay flat over thousands of trials, and what does a worker more cost at the start?

Trials: --trials of them, --at-once at a time, on a simulated cluster of --nodes logical nodes (scale_hosts.py): trials
whose training ends at once, in few processes, everything else real. ``raytrainer tune`` as a user has it, and Ray
Tune alone, with its own settings and a trial that returns one number, as the peer. Noted at every trial's end: CPU
seconds of the driver's process, all its threads, and the clock; told by blocks of as many trials. Flat is: the last
block costs at most 1.2 times the second one; the first one has imports and connections in it.

Workers: seconds from a program's start to the end of its first optimizer step with 1, 2, 4, ... workers on this
machine's logical CPUs, RayTrainer beside torchrun. Run: python benchmarks/scale.py --help
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from figures import Goal, conclude, machine, parser, spread
from parties import leave_group, run_party, say
from sweep_many import MODULE

FLAT = 1.2
SLOT = "trial_slot"
TRAINABLE = "nothing"


class Notes:
    """Driver: CPU seconds and the clock at the end of each block of trials."""

    def __init__(self, block: int) -> None:
        self._block, self._ended = block, 0
        self.marks: list[tuple[float, float]] = [self._now()]

    def ended(self) -> None:
        self._ended += 1
        if self._ended % self._block == 0:
            self.marks.append(self._now())

    def blocks(self) -> dict[str, list[float]]:
        """Return milliseconds a trial, block by block."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        kinds = {"cpu_ms": 0, "wall_ms": 1}
        return {name: [1000 * (b[i] - a[i]) / self._block for a, b in pairs] for name, i in kinds.items()}

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.process_time(), time.monotonic()


def start_cluster(nodes: int, slots: int) -> Any:
    """Start logical nodes with as many slots for trials together, and connect."""
    import ray
    from ray.cluster_utils import Cluster

    each = -(-slots // nodes)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": {SLOT: each}})
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=0, resources={SLOT: each})
    ray.init(address=cluster.address)
    return cluster


def with_raytrainer(given: argparse.Namespace) -> None:
    from scale_hosts import hosted

    from raytrainer.config.sweep import load_sweep
    from raytrainer.launch.tune import tune
    from raytrainer.sweep.overseer import Overseer

    (given.folder / "line.py").write_text(MODULE)
    sys.path.insert(0, str(given.folder))
    sweep = {
        "name": "scale",
        "trainer": "line:build",
        "training": {"max_steps": 1, "per_device_train_batch_size": 8},
        "mlflow": None,
        "run": {"storage_path": str(given.folder / "runs")},
        "scaling": {"num_workers": 1, "resources_per_worker": {"CPU": 0, SLOT: 1}},
        "search_space": {"training.learning_rate": {"loguniform": [1.0e-4, 1.0]}},
        "tune": {
            "metric": "eval_loss",
            "mode": "min",
            "search": "random",
            "num_samples": given.trials,
            "max_concurrent_trials": given.at_once,
        },
    }
    file = given.folder / "scale.yaml"
    file.write_text(yaml.safe_dump(sweep))
    cluster = start_cluster(given.nodes, given.at_once)
    notes, complete = Notes(given.trials // given.blocks), Overseer.on_trial_complete

    def on_trial_complete(self: Overseer, *args: Any, **kwargs: Any) -> None:
        complete(self, *args, **kwargs)
        notes.ended()

    Overseer.on_trial_complete = on_trial_complete  # type: ignore[method-assign]
    with hosted({"RAY_CHDIR_TO_TRIAL_DIR": "0"}):
        tune(load_sweep(str(file), []))
    finish(given, notes, cluster)


def with_ray_tune(given: argparse.Namespace) -> None:
    from ray import tune
    from ray.tune import Callback
    from scale_hosts import hosted

    class Nothing(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {"eval_loss": abs(self.config["learning_rate"] - 1e-2), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

    class Told(Callback):
        def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
            notes.ended()

    cluster = start_cluster(given.nodes, given.at_once)
    notes = Notes(given.trials // given.blocks)
    with hosted({"RAY_CHDIR_TO_TRIAL_DIR": "0"}):
        tune.run(
            tune.with_resources(Nothing, {SLOT: 1}),
            config={"learning_rate": tune.loguniform(1e-4, 1.0)},
            num_samples=given.trials,
            storage_path=str(given.folder / "runs"),
            name=TRAINABLE,
            callbacks=[Told()],
            reuse_actors=True,
            verbose=0,
        )
    finish(given, notes, cluster)


def finish(given: argparse.Namespace, notes: Notes, cluster: Any) -> None:
    import psutil
    import ray

    last = notes.marks[-1][1]
    assert len(notes.marks) == given.blocks + 1, f"{len(notes.marks) - 1} of {given.blocks} blocks of trials ended"
    size = psutil.Process().memory_full_info().uss
    say(given.folder, {**notes.blocks(), "after_the_last_s": time.monotonic() - last, "driver_mb": size / 1e6})
    ray.shutdown()
    cluster.shutdown()


def first_step(given: argparse.Namespace) -> dict[str, Any]:
    """Return model, data and the callback that notes the first step, for a trainer on any number of workers."""
    import torch
    from transformers import TrainerCallback

    sys.path.insert(0, str(given.folder.parent))
    from importlib import import_module

    class First(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.process_index == 0:
                assert args.world_size == given.workers
                say(given.folder, {"first_step": time.time()})

    data = [{"x": torch.tensor([i / 8.0]), "labels": torch.tensor([i / 4.0])} for i in range(64)]
    return {"model": import_module("line").Line(), "train_dataset": data, "callbacks": [First()]}


def start_raytrainer(given: argparse.Namespace) -> None:
    from ray.train import ScalingConfig

    from raytrainer import RayTrainer, RayTrainingArguments

    args = RayTrainingArguments(str(given.folder / "out"), max_steps=1, save_strategy="no", report_to="none")
    RayTrainer(args=args, scaling_config=ScalingConfig(num_workers=given.workers), **first_step(given)).train()


def start_torchrun(given: argparse.Namespace) -> None:
    from transformers import Trainer, TrainingArguments

    told: dict[str, Any] = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True}
    Trainer(args=TrainingArguments(str(given.folder / "out"), **told), **first_step(given)).train()
    leave_group()


SWEEPS = {"raytrainer": with_raytrainer, "ray tune": with_ray_tune}
STARTS = {"start raytrainer": start_raytrainer, "start torchrun": start_torchrun}


def measure_sweeps(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    options = [f"--trials={given.trials}", f"--at-once={given.at_once}"]
    options += [f"--blocks={given.blocks}", f"--nodes={given.nodes}"]
    results: dict[str, Any] = {}
    for party in SWEEPS:
        said = run_party(__file__, party, folder / party.replace(" ", "-"), *options)
        cpu = said["cpu_ms"]
        results[party] = {**{k: said[k] for k in ("cpu_ms", "wall_ms", "after_the_last_s", "driver_mb")}}
        results[party]["last_over_second"] = round(cpu[-1] / cpu[1], 3)
        print(f"{party:10}  CPU ms a trial, by block:  {'  '.join(f'{each:.1f}' for each in cpu)}", flush=True)
        print(f"{party:10}  wall ms a trial, by block: {'  '.join(f'{each:.1f}' for each in said['wall_ms'])}")
        after, size = said["after_the_last_s"], said["driver_mb"]
        print(f"{party:10}  after the last trial {after:.1f} s; the driver has {size:.0f} MB", flush=True)
    return results


def measure_starts(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    seconds: dict[str, dict[int, list[float]]] = {party: {n: [] for n in given.of_workers} for party in STARTS}
    # Before there are ranks, which would all write it while others read it.
    (folder / "line.py").write_text(MODULE)
    for number in range(given.rounds):
        for workers in given.of_workers:
            for party, found in seconds.items():
                at = folder / f"{party.replace(' ', '-')}-{workers}-{number}"
                processes = workers if party == "start torchrun" else 0
                said = run_party(__file__, party, at, f"--workers={workers}", torchrun=processes)
                found[workers].append(said["first_step"] - said["began"])
                print(f"{party:16}  {workers} workers  {found[workers][-1]:6.1f} s to the first step", flush=True)
    return {party: {str(n): spread(each) for n, each in found.items()} for party, found in seconds.items()}


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--trials", type=int, default=1000, help="of each sweep; 10000 takes its time")
    options.add_argument("--at-once", type=int, default=256, help="trials at a time")
    options.add_argument("--blocks", type=int, default=10, help="parts of the sweep that are told apart")
    options.add_argument("--nodes", type=int, default=4, help="logical nodes of the simulated cluster")
    options.add_argument("--of-workers", type=int, nargs="*", default=[1, 2, 4, 8], help="numbers of workers to start")
    options.add_argument("--rounds", type=int, default=1, help="how often each number of workers is started")
    options.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    options.add_argument("--party", choices=[*SWEEPS, *STARTS], help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args(words)
    if given.party:
        {**SWEEPS, **STARTS}[given.party](given)
        return
    if given.blocks < 3 or given.trials % given.blocks:
        options.error("--trials has to be a multiple of --blocks, and --blocks at least 3")
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="scale-"))
    sweeps = measure_sweeps(given, folder)
    starts = measure_starts(given, folder)
    ours = sweeps["raytrainer"]
    goal = Goal("CPU a trial, last block over second", ours["last_over_second"], FLAT)
    conclude("scale", {"sweeps": sweeps, "first_step_s": starts}, [goal], begun, given.json)


if __name__ == "__main__":
    main()
