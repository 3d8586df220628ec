"""How long a training loop stands still for what it reports: RayTrainer beside Ray Train's own report, stock settings.

RayTrainer trains a model of one weight on two workers and logs, evaluates and saves often. Each hook of each of its own
callbacks is timed on rank 0: a log, the ``ray.train.report`` that follows an evaluation and a save, the hand-over of a
checkpoint of some bytes, and what is asked at the end of a step. The peer is a TorchTrainer with Ray's settings as they
come, whose loop computes as long between two reports and calls ``ray.train.report`` as often. Before a call is timed
all ranks meet, so that what one rank is behind the other is not counted. What a checkpoint of a real size costs is
benchmarks/checkpoint_stall.py's to say. Run: python benchmarks/report_latency.py --help
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Goal, conclude, machine, parser, spread
from parties import run_party, say

EVALUATE_EVERY, SAVE_EVERY = 5, 10
MEDIAN_MS, WORST_MS = 5.0, 60.0
# What the hooks of raytrainer's callbacks are to a user.
KINDS = {
    ("ReportingCallback", "on_log"): "log",
    ("ReportingCallback", "on_evaluate"): "report of an evaluation",
    ("ReportingCallback", "on_save"): "report of a save",
    ("RecoveryCallback", "on_save"): "hand-over of a save",
    ("RecoveryCallback", "on_step_end"): "end of a step",
}
PEER = "ray.train.report"


class Clock:
    """Rank 0: what each call took, by kind."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self.took: defaultdict[str, list[float]] = defaultdict(list)

    def timed(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        import torch.distributed

        def timed_call(*args: Any, **kwargs: Any) -> Any:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()
            began = time.perf_counter()
            result = call(*args, **kwargs)
            self.took[kind].append(1000 * (time.perf_counter() - began))
            return result

        return timed_call

    def tell(self, rank: int) -> None:
        if rank == 0:
            say(self._given.folder, {"took_ms": self.took})


def computing(milliseconds: float) -> Callable[[], None]:
    """Return what a step does beside its one weight."""
    import torch

    work = torch.rand(200, 200)

    def compute() -> None:
        until = time.perf_counter() + milliseconds / 1000
        while time.perf_counter() < until:
            torch.mm(work, work)

    return compute


def with_raytrainer(given: argparse.Namespace) -> None:
    import torch
    from ray.train import ScalingConfig
    from transformers import Trainer

    from raytrainer import RayTrainingArguments, distribute

    class Timed(Trainer):
        """Times the hooks of raytrainer's callbacks."""

        def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
            clock = Clock(given)
            own = {type(callback).__name__: callback for callback in self.callback_handler.callbacks}
            for (name, hook), kind in KINDS.items():
                setattr(own[name], hook, clock.timed(kind, getattr(own[name], hook)))
            result = super()._inner_training_loop(*args, **kwargs)
            for name, hook in KINDS:
                vars(own[name]).pop(hook)
            clock.tell(self.args.process_index)
            return result

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(1, 1)

        def forward(self, x: Any = None, labels: Any = None) -> dict[str, Any]:
            computing(given.compute)()
            y = self.line(x)
            return {"loss": ((y - labels) ** 2).mean(), "logits": y}

    data = [{"x": torch.tensor([i / 8.0]), "labels": torch.tensor([i / 4.0])} for i in range(8)]
    often: dict[str, Any] = {"logging_steps": 1, "eval_strategy": "steps", "eval_steps": EVALUATE_EVERY}
    often |= {"save_strategy": "steps", "save_steps": SAVE_EVERY, "save_total_limit": 1}
    args = RayTrainingArguments(str(given.folder / "out"), max_steps=given.steps, report_to="none", **often)
    kind: Any = distribute(Timed)
    scaling = ScalingConfig(num_workers=given.workers)
    kind(Line(), args, train_dataset=data, eval_dataset=data, scaling_config=scaling).train()


def with_ray_train(given: argparse.Namespace) -> None:
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    # Without an address it would join what others left on this machine.
    ray.init(address="local", num_cpus=max(given.workers, 2), include_dashboard=False)
    run = RunConfig(name="run", storage_path=str(given.folder / "storage"))
    scaling = ScalingConfig(num_workers=given.workers)
    TorchTrainer(ray_train_loop, train_loop_config={"given": given}, scaling_config=scaling, run_config=run).fit()


def ray_train_loop(config: dict[str, Any]) -> None:
    import ray.train

    given: argparse.Namespace = config["given"]
    clock, compute = Clock(given), computing(given.compute)
    report = clock.timed(PEER, ray.train.report)
    for step in range(1, given.reports * EVALUATE_EVERY + 1):
        compute()
        if step % EVALUATE_EVERY == 0:
            report({"eval_loss": 1 / step, "step": step, "epoch": step / 100})
    clock.tell(ray.train.get_context().get_world_rank())


PARTIES = {"raytrainer": with_raytrainer, "ray train": with_ray_train}


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=2, help="how often each of the two trains")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--steps", type=int, default=200, help="optimizer steps of RayTrainer's training, each logged")
    options.add_argument("--reports", type=int, default=10, help="of the peer, which stands still for seconds")
    options.add_argument("--compute", type=float, default=20.0, help="milliseconds that a step computes")
    options.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args(words)
    if given.party:
        PARTIES[given.party](given)
        return
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="report-latency-"))
    names = ("workers", "steps", "reports", "compute")
    told = [word for name in names for word in (f"--{name}", str(getattr(given, name)))]
    took: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(given.rounds):
        for party in sorted(PARTIES, reverse=number % 2 == 1):
            said = run_party(__file__, party, folder / str(number) / party.replace(" ", "-"), *told)
            for kind, each in said["took_ms"].items():
                # The first calls import and connect.
                took[kind] += each[1:]
                print(f"round {number}  {party:10}  {kind:24}  {len(each):4}  {spread(each[1:])} ms", flush=True)
    results = {kind: {**spread(each), "calls": len(each)} for kind, each in sorted(took.items())}
    for kind, each in results.items():
        print(f"{kind:24}  {each} ms")
    reports = [kind for kind in results if kind in ("log", "report of an evaluation", "report of a save")]
    goals = [Goal(f"ms, median: {kind}", results[kind]["median"], MEDIAN_MS) for kind in reports]
    goals += [Goal(f"ms, worst: {kind}", results[kind]["to"], WORST_MS) for kind in reports]
    evaluation = results["report of an evaluation"]["median"]
    ratio = evaluation / results[PEER]["median"]
    print(f"an evaluation's report takes {ratio:.4f} of Ray Train's as it comes")
    conclude("report_latency", {"ms": results, "ratio": round(ratio, 4)}, goals, begun, given.json)


if __name__ == "__main__":
    main()
