"""From command to first optimizer step: raytrainer beside torchrun and beside a bare TorchTrainer, two CPU workers.

All train the same small model on the same data with transformers' Trainer. A program is started; a callback on rank 0
notes when the first optimizer step is done. Measured: cold (Ray is not running), on a cluster that is running already,
and a second train() in the same program. The parties take turns. raytrainer's own phases are printed beside them.

script: the very program that torchrun starts, by ``raytrainer run``. classes: RayTrainer in the place of Trainer.
warm_up: the same program with ``raytrainer.warm_up`` in its first line. TorchTrainer: Ray Train by itself.
Run: python benchmarks/startup.py --help
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpu_time import cpu_seconds
from figures import Goal, conclude, machine, parser, ratios, spread
from parties import run_party, say
from sweep_task import environment

ROOT = Path(__file__).parents[1]
GOALS = {"cold": 1.6, "running": 1.2, "second": 0.5}
PARTIES = ("torchrun", "script", "classes", "warm_up", "TorchTrainer")
STEPS = 4


def parts(folder: Path) -> dict[str, Any]:
    """Return what a trainer is built from: model, data, and the callback that notes the first step's end."""
    import torch
    from datasets import Dataset
    from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

    class FirstStep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1 and state.is_world_process_zero:
                with (folder / "first-steps").open("a") as file:
                    print(time.time(), file=file)

    torch.manual_seed(0)
    config = BertConfig(vocab_size=128, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    ids = torch.randint(0, 128, (256, 32)).tolist()
    data = Dataset.from_dict({"input_ids": ids, "labels": [row[0] % 2 for row in ids]})
    return {"model": BertForSequenceClassification(config), "train_dataset": data, "callbacks": [FirstStep()]}


def arguments(folder: Path) -> dict[str, Any]:
    often = {"max_steps": STEPS, "logging_steps": STEPS, "save_strategy": "no", "per_device_train_batch_size": 8}
    return {"output_dir": str(folder / "out"), "use_cpu": True, "report_to": "none", "disable_tqdm": True, **often}


# Each party is a program of its own


def torchrun(folder: Path) -> None:
    from transformers import Trainer, TrainingArguments

    Trainer(args=TrainingArguments(**arguments(folder)), **parts(folder)).train()


def classes(folder: Path) -> None:
    from ray.train import ScalingConfig

    from raytrainer import RayTrainer, RayTrainingArguments

    trainer: Any = RayTrainer(
        args=RayTrainingArguments(**arguments(folder)),
        scaling_config=ScalingConfig(num_workers=2),
        **parts(folder),
    )
    trainer.train()
    phases = [trainer.phases]
    asked = time.time()
    trainer.train()
    say(folder, {"asked": asked, "phases": [*phases, trainer.phases]})


def warm_up(folder: Path) -> None:
    from ray.train import ScalingConfig

    import raytrainer

    raytrainer.warm_up(ScalingConfig(num_workers=2))
    classes(folder)


def bare(folder: Path) -> None:
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop() -> None:
        from transformers import Trainer, TrainingArguments

        os.environ["ACCELERATE_USE_CPU"] = "true"
        sys.path.insert(0, str(ROOT / "benchmarks"))
        Trainer(args=TrainingArguments(**arguments(folder)), **parts(folder)).train()

    if not os.environ.get("RAY_ADDRESS"):
        ray.init(address="local", num_cpus=2, include_dashboard=False)

    def fit() -> None:
        run = RunConfig(storage_path=str(folder / "storage"))
        TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=2), run_config=run).fit()

    fit()
    asked = time.time()
    fit()
    say(folder, {"asked": asked})


# The one who measures


def profile(party: str, folder: Path, address: str | None) -> dict[str, float]:
    """Return the CPU seconds until the first step's end by kind of process; sampling takes some itself."""
    with cpu_seconds((folder / "first-steps").exists) as by_kind:
        measure(party, folder, address)
    print(f"{party} {'running' if address else 'cold'}: {sum(by_kind.values()):.1f} s of CPU until the first step")
    for name, seconds in sorted(by_kind.items(), key=lambda item: -item[1]):
        print(f"  {seconds:5.1f}  {name}", flush=True)
    return by_kind


def measure(party: str, folder: Path, address: str | None) -> dict[str, Any]:
    """Run a party's program.

    Args:
        party: one of PARTIES.
        folder: where it writes.
        address: of a running Ray; None for a Ray of its own.

    Returns:
        Seconds from the command to the first step's end, from a second call's beginning to its first step's end, and
        raytrainer's phases of both.
    """
    variables = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HOME": str(folder.parent), **TOKEN}
    if address:
        variables["RAY_ADDRESS"] = address
    processes = 2 if party == "torchrun" else 0
    said = run_party(__file__, party, folder, torchrun=processes, variables=variables, script=2 * (party == "script"))
    ends = [float(line) for line in (folder / "first-steps").read_text().split()]
    found: dict[str, Any] = {"first": ends[0] - said["began"]}
    if "asked" in said:
        found |= {"second": ends[1] - said["asked"], "phases": said.get("phases")}
    return found


# Shared by a Ray here and its programs.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-benchmark-and-of-nothing-else-0123456789"}


@contextmanager
def running_ray(folder: Path) -> Iterator[str]:
    """Start a Ray of two CPUs, and end it by its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
    options = ["--port", str(port), "--include-dashboard", "false", "--dashboard-agent-listen-port", "0"]
    known = {**environment(), **TOKEN, "HOME": str(folder)}
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen([*start, *options], env=known, stdout=log, stderr=subprocess.STDOUT)
    try:
        while "--block" not in (folder / "head.log").read_text():
            if head.poll() is not None:
                sys.exit(f"Ray did not start:\n{(folder / 'head.log').read_text()[-4000:]}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait()


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3, help="how often each of them runs")
    options.add_argument("--only", choices=PARTIES, nargs="+", default=list(PARTIES), help="the parties to measure")
    options.add_argument("--profile", action="store_true", help="once more each: CPU seconds by kind of process")
    options.add_argument("--party", choices=PARTIES, help=SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args(words)
    if given.party:
        programs = {"classes": classes, "warm_up": warm_up, "TorchTrainer": bare}
        programs.get(given.party, torchrun)(given.folder)
        return
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="startup-"))
    figures: dict[str, list[dict[str, Any]]] = {}

    def note(name: str, found: dict[str, Any]) -> None:
        figures.setdefault(name, []).append(found)
        print(f"{name:22}", "  ".join(f"{key} {found[key]:.2f} s" for key in ("first", "second") if key in found))
        for call, phases in zip(("first", "second"), found.get("phases") or [], strict=False):
            print(f"{'':22}", call, ", ".join(f"{key} {value:.2f}" for key, value in phases.items()), flush=True)

    for number in range(given.rounds):
        for party in given.only:
            note(f"{party} cold", measure(party, folder / f"{party}-cold-{number}", None))
        # Between two turns of its peer: the machine may be another one in a quarter of an hour.
        with running_ray(folder) as address:
            for party in given.only:
                if party != "torchrun":
                    note(f"{party} running", measure(party, folder / f"{party}-running-{number}", address))
    seconds = by_case(figures)
    results, goals = judge(seconds)
    cpu_s = profiles(given.only, folder) if given.profile else None
    conclude("startup", {**results, "rounds": figures, "cpu_s": cpu_s}, goals, begun, given.json)


def profiles(parties: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """Return CPU seconds by party and case, and by kind of process; of one run each."""
    found = {f"{party} cold": profile(party, folder / f"{party}-cold-profile", None) for party in parties}
    with running_ray(folder) as address:
        for party in parties:
            if party != "torchrun":
                found[f"{party} running"] = profile(party, folder / f"{party}-running-profile", address)
    return found


def by_case(figures: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return seconds by party and case, round by round; a second call's are those in its cold program."""
    seconds = {name: [found["first"] for found in each] for name, each in figures.items()}
    for name, each in figures.items():
        if name.endswith(" cold") and "second" in each[0]:
            seconds[name.replace("cold", "second")] = [found["second"] for found in each]
    return seconds


def judge(seconds: dict[str, list[float]]) -> tuple[dict[str, Any], list[Goal]]:
    """Return spreads, and ratios to torchrun where that was measured; and raytrainer's goals."""
    peer, goals = seconds.get("torchrun cold"), []
    results: dict[str, Any] = {}
    for name, values in sorted(seconds.items()):
        results[name] = {"seconds": spread(values)}
        line = f"{name:22} {results[name]['seconds']}"
        if peer is not None:
            results[name]["of_torchrun"] = ratio = ratios(values, peer)
            line += f"  of torchrun's {ratio}"
            party, case = name.split()
            if party not in ("torchrun", "TorchTrainer"):
                goals.append(
                    Goal(f"{party}, {case}: command to first step, of torchrun's", ratio["median"], GOALS[case])
                )
        print(line)
    return results, goals


if __name__ == "__main__":
    main()
