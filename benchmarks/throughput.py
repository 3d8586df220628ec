"""Samples a second in steady state: RayTrainer, with all that it reports, beside torchrun with bare transformers.

Both train the same T5 on the same rows with the same arguments on the same number of CPU workers, each as a program of
its own, turn by turn; who begins changes from round to round. transformers' own callback notes, on rank 0, when the
steps --warm-up and --steps end: samples of the steps between over the seconds between. RayTrainer reports as it does
for a user: logs to the driver, its progress, and MLflow with a database of its own; the peer logs as often, to nobody.
Run: python benchmarks/throughput.py --help
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Goal, conclude, machine, parser, ratios, spread
from parties import leave_group, run_party, say

if TYPE_CHECKING:
    import torch

LENGTH, WORDS = 64, 512
AT_LEAST = 0.98


def model() -> Any:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"d_model": 128, "d_ff": 256, "d_kv": 32, "num_layers": 2, "num_heads": 4}
    config: Any = T5Config
    return T5ForConditionalGeneration(config(vocab_size=WORDS, decoder_start_token_id=0, **sizes))


def rows(count: int) -> list[dict[str, torch.Tensor]]:
    import torch

    made = torch.randint(2, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row[: LENGTH // 2]} for row in made]


def arguments(given: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(given.folder / "out"),
        "per_device_train_batch_size": given.batch,
        "max_steps": given.steps,
        "logging_steps": 10,
        "save_strategy": "no",
        "run_name": "throughput",
    }


def clock(given: argparse.Namespace) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Rank 0: when the first and the last step of the window ended."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == given.warm_up:
                self.begin = time.perf_counter()
            if state.global_step == given.steps and args.process_index == 0:
                samples = (given.steps - given.warm_up) * args.train_batch_size * args.world_size
                seconds = time.perf_counter() - self.begin
                say(given.folder, {"samples_per_s": samples / seconds, "workers": args.world_size})

    return Clock()


def with_raytrainer(given: argparse.Namespace) -> None:
    from ray.train import ScalingConfig

    from raytrainer import RayTrainer, RayTrainingArguments

    RayTrainer(
        model(),
        RayTrainingArguments(**arguments(given), report_to="mlflow"),
        train_dataset=rows(given.steps * given.batch * given.workers),
        callbacks=[clock(given)],
        scaling_config=ScalingConfig(num_workers=given.workers),
    ).train()


def with_torchrun(given: argparse.Namespace) -> None:
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(**arguments(given), report_to="none", use_cpu=True)
    data = rows(given.steps * given.batch * given.workers)
    Trainer(model(), args, train_dataset=data, callbacks=[clock(given)]).train()
    leave_group()


PARTIES = {"raytrainer": with_raytrainer, "torchrun": with_torchrun}


def measure(party: str, folder: Path, given: argparse.Namespace) -> float:
    names = ("workers", "steps", "warm_up", "batch")
    options = [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(given, name)))]
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_EXPERIMENT_NAME": "throughput"}
    processes = given.workers if party == "torchrun" else 0
    said = run_party(__file__, party, folder, *options, torchrun=processes, variables=tracking)
    assert said["workers"] == given.workers, f"{party} trained with {said['workers']} workers"
    return float(said["samples_per_s"])


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3, help="how often each of the two trains")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--steps", type=int, default=250, help="optimizer steps of a training")
    options.add_argument("--warm-up", type=int, default=100, help="of them, those left out at the begin")
    options.add_argument("--batch", type=int, default=16, help="samples a step and worker")
    options.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args(words)
    if given.party:
        PARTIES[given.party](given)
        return
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="throughput-"))
    speeds: dict[str, list[float]] = {party: [] for party in PARTIES}
    for number in range(given.rounds):
        for party in sorted(PARTIES, reverse=number % 2 == 1):
            speeds[party].append(measure(party, folder / str(number) / party, given))
            print(f"round {number}  {party:10}  {speeds[party][-1]:8.1f} samples/s", flush=True)
    ratio = ratios(speeds["raytrainer"], speeds["torchrun"])
    results: dict[str, Any] = {"samples_per_s": {party: spread(each) for party, each in speeds.items()}, "ratio": ratio}
    for party, each in results["samples_per_s"].items():
        print(f"{party:10}  {each}")
    print(f"raytrainer over torchrun, round by round  {ratio}")
    goal = Goal("samples/s of raytrainer over torchrun", ratio["median"], AT_LEAST, at_least=True)
    conclude("throughput", {**results, "rounds": speeds}, [goal], begun, given.json)


if __name__ == "__main__":
    main()
