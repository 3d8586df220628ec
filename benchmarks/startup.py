"""From command to first optimizer step: raytrainer beside torchrun and beside a bare TorchTrainer, two CPU workers.

All train the same small model on the same data with transformers' Trainer. A program is started; a callback on rank 0
notes when the first optimizer step is done. Measured: cold (Ray is not running), on a cluster that is running already,
and a second train() in the same program. The parties take turns. raytrainer's own phases are printed beside them.
Run: python benchmarks/startup.py --help
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOALS = {"cold": 1.6, "running": 1.2, "second": 0.5}
PARTIES = ("torchrun", "raytrainer", "TorchTrainer")
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


def raytrainer(folder: Path) -> None:
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
    phases.append(trainer.phases)
    (folder / "second.json").write_text(json.dumps({"asked": asked, "phases": phases}))


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
    (folder / "second.json").write_text(json.dumps({"asked": asked}))


# The one who measures


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
    folder.mkdir(parents=True)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if party == "torchrun" else []
    command = [sys.executable, *launch, __file__, "--party", party, "--folder", str(folder)]
    offline = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {**ray_environment(folder.parent), **offline}
    environment.pop("RAY_ADDRESS", None)
    if address:
        environment["RAY_ADDRESS"] = address
    log = folder / "log"
    with log.open("w") as file:
        began = time.time()
        done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{party} ended with {done.returncode}:\n{log.read_text()[-4000:]}")
    ends = [float(line) for line in (folder / "first-steps").read_text().split()]
    found: dict[str, Any] = {"first": ends[0] - began}
    if (folder / "second.json").exists():
        second = json.loads((folder / "second.json").read_text())
        found |= {"second": ends[1] - second["asked"], "phases": second.get("phases")}
    return found


def ray_environment(folder: Path) -> dict[str, str]:
    """Return this environment with a token that a Ray here and its programs share."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-benchmark-and-of-nothing-else-0123456789"}
    return {**os.environ, **token, "PYTHONPATH": str(ROOT), "HOME": str(folder)}


@contextmanager
def running_ray(folder: Path) -> Iterator[str]:
    """Start a Ray of two CPUs, and end it by its process."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
    options = ["--port", str(port), "--include-dashboard", "false", "--dashboard-agent-listen-port", "0"]
    environment = {**ray_environment(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen([*start, *options], env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while "--block" not in (folder / "head.log").read_text():
            if head.poll() is not None:
                sys.exit(f"Ray did not start:\n{(folder / 'head.log').read_text()[-4000:]}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each of them runs")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--only", choices=PARTIES, nargs="+", default=list(PARTIES), help="the parties to measure")
    parser.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = parser.parse_args()
    if given.party:
        {"torchrun": torchrun, "raytrainer": raytrainer, "TorchTrainer": bare}[given.party](given.folder)
        return
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
    missed = report(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(missed)


def report(figures: dict[str, list[dict[str, Any]]]) -> int:
    """Print medians, and where torchrun was measured ratios and verdicts; return 1 where a goal is missed."""
    seconds = {name: [found["first"] for found in all_found] for name, all_found in figures.items()}
    for party in ("raytrainer", "TorchTrainer"):
        seconds[f"{party} second"] = [
            found["second"] for where in ("cold", "running") for found in figures.get(f"{party} {where}", [])
        ]
    peer = statistics.median(seconds["torchrun cold"]) if "torchrun cold" in seconds else None
    missed = 0
    for name, values in seconds.items():
        if not values:
            continue
        median = statistics.median(values)
        line = f"{name:22} {median:6.2f} s ({min(values):.2f} to {max(values):.2f})"
        party, case = name.split()
        if peer is not None:
            line += f"  {median / peer:5.2f} of torchrun's"
        if peer is not None and party == "raytrainer":
            kept = median / peer <= GOALS[case]
            missed |= not kept
            line += f"  goal {GOALS[case]}: {'reached' if kept else 'MISSED'}"
        print(line)
    return int(missed)


if __name__ == "__main__":
    main()
