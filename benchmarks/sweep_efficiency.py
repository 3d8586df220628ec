"""How many of random search's training steps ASHA needs for random search's best metric, over several seeds.

Both sweep the same space on the same task (examples/text_classification.yaml) with two trials at a time, in turn in one
run. Random search trains its trials to their end. ASHA may begin more of them; its steps are counted, over all trials
and in the order in which they were made, until an evaluation is as good as the best one of random search. A seed where
none is counts as not reached, and as no share. Run: python benchmarks/sweep_efficiency.py --help
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from figures import Goal, conclude, machine, parser
from sweep_task import METRIC, tune, write_base, write_sweep

EVALUATIONS = 12
SPACE = {
    "training.learning_rate": {"loguniform": [1.0e-4, 3.0e-2]},
    "training.per_device_train_batch_size": {"choice": [16, 32, 64]},
    "training.weight_decay": {"uniform": [0.0, 0.3]},
    "training.warmup_steps": {"uniform": [0.0, 0.3]},
}


def best(trials: list[dict[str, Any]]) -> float:
    """Return the best metric of all evaluations."""
    return max(float(entry["metrics"][METRIC]) for trial in trials for entry in trial["history"])


def all_steps(trials: list[dict[str, Any]]) -> int:
    """Return the steps that were trained in all."""
    return sum(int(trial["history"][-1]["step"]) for trial in trials if trial["history"])


def steps_until(trials: list[dict[str, Any]], target: float) -> int | None:
    """Return the steps trained in all until the first evaluation that is as good as ``target``; None where none is."""
    entries = [(entry["time"], trial["number"], entry) for trial in trials for entry in trial["history"]]
    trained: dict[int, int] = {}
    for _, number, entry in sorted(entries, key=lambda each: each[:2]):
        trained[number] = entry["step"]
        if entry["metrics"][METRIC] >= target:
            return sum(trained.values())
    return None


def measure(base: Path, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    asha = {"asha": {"grace_period": given.steps // EVALUATIONS, "reduction_factor": given.reduction}}
    common = {"search": "random", "seed": seed, "scope": "best"}
    fifo = {**common, "scheduler": "fifo", "num_samples": given.trials}
    random = tune(write_sweep(base, f"random-{seed}", SPACE, fifo))
    early = tune(
        write_sweep(base, f"asha-{seed}", SPACE, {**common, "scheduler": asha, "num_samples": given.asha_trials})
    )
    target, needed = best(random), steps_until(early, best(random))
    return {
        "seed": seed,
        "random_best": round(target, 4),
        "random_steps": all_steps(random),
        "asha_best": round(best(early), 4),
        "asha_steps": all_steps(early),
        "asha_steps_until": needed,
        "share": None if needed is None else round(needed / all_steps(random), 3),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--trials", type=int, default=16, help="of random search")
    options.add_argument("--asha-trials", type=int, default=32, help="the most that ASHA may begin")
    options.add_argument("--steps", type=int, default=240, help="optimizer steps of a trial that is not stopped")
    options.add_argument("--reduction", type=int, default=3, help="ASHA goes on with one in so many")
    options.add_argument("--folder", type=Path, help="where to write; default is a temporary folder")
    given = options.parse_args()
    begun = machine()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="sweep-efficiency-"))
    base = write_base(folder, given.steps, EVALUATIONS)
    rows = []
    for seed in given.seeds:
        rows.append(measure(base, seed, given))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    summary = summarise(rows)
    print(f"share of random search's steps: {summary}")
    # What was not reached is more than any share.
    share = float("inf") if summary["median"] is None else summary["median"]
    goal = Goal("ASHA's steps until random search's best, of its steps", share, 0.5)
    conclude("sweep_efficiency", {"seeds": rows, "summary": summary}, [goal], begun, given.json)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    # What was not reached is more than any share: it counts in the median, and is no number.
    shares = sorted(float("inf") if row["share"] is None else row["share"] for row in rows)
    median = statistics.median(shares)
    reached = [share for share in shares if share < float("inf")]
    return {
        "median": None if median == float("inf") else round(median, 3),
        "from": min(reached, default=None),
        "to": max(reached, default=None),
        "reached": len(reached),
        "seeds": len(rows),
    }


if __name__ == "__main__":
    main()
