"""64 trials at a time that log every step, against one real MLflow server, beside Ray's MLflowLoggerCallback.

The trials train nothing: 64 threads in eight processes of a Ray cluster tell what a training would log, some twenty
steps a second each. Told: what a log costs a trial, how long after the last one the server has all of it, and that it
has every step of every trial. Ray's callback is called as Ray Tune's loop calls it, for the same trials and steps in
turn: what a result costs that loop, in which all trials wait. Run: python benchmarks/tracking_trials.py --help
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from figures import Goal, conclude, machine, parser
from tracking import server

from raytrainer.checkpoints import Store
from raytrainer.events import Logged
from raytrainer.sweep.records import TrialRecord
from raytrainer.sweep.telling import Teller
from raytrainer.sweep.tracking import told, tracked
from raytrainer.tracking import Target

PROCESSES = 8
PACE_S = 0.05


def metrics(number: int, step: int) -> dict[str, float]:
    """Return as many as a training logs."""
    return {"loss": 1 / (step + number), "grad_norm": 0.5 * step, "learning_rate": 1e-3 / step, "epoch": step / 100}


@ray.remote(num_cpus=0)
class Trials:
    """Some of the trials, a thread each."""

    def run(self, post: Any, numbers: list[int], steps: int) -> list[float]:
        """Return what each log took, in milliseconds."""
        took: list[float] = []
        threads = [threading.Thread(target=self._train, args=(post, number, steps, took)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return took

    def _train(self, post: Any, number: int, steps: int, took: list[float]) -> None:
        teller = Teller(post, TrialRecord(id=f"trial{number}", number=number, origin="random", began=time.time()))
        due = time.monotonic()
        for step in range(1, steps + 1):
            due += PACE_S  # what a step takes
            time.sleep(max(0.0, due - time.monotonic()))
            logged = metrics(number, step)
            epoch = logged.pop("epoch")
            event = Logged(step, steps, epoch, logged, time.time())
            began = time.perf_counter()
            teller.handle(event)
            took.append(1000 * (time.perf_counter() - began))
        teller.close(None)


def ours(uri: str, folder: Path, trials: int, steps: int) -> dict[str, float]:
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    target = Target(uri, experiment_name="many", run_name="many")
    began = time.monotonic()
    with tracked(target, Store(str(folder)), "loss", {}, again=False) as tracking:
        with told(tracking) as post:
            actors = [Trials.remote() for _ in range(PROCESSES)]  # type: ignore[attr-defined]  # ray.remote's classes carry no types
            shares = [list(range(1, trials + 1))[part::PROCESSES] for part in range(PROCESSES)]
            working = [actor.run.remote(post, numbers, steps) for actor, numbers in zip(actors, shares, strict=True)]
            took = sorted(each for part in ray.get(working) for each in part)
        last = time.monotonic()
    ended = time.monotonic()
    ray.shutdown()
    return {
        "median_ms": statistics.median(took),
        "p99_ms": took[int(len(took) * 0.99)],
        "logging_s": last - began,
        "until_all_is_there_s": ended - last,
    }


def there(uri: str, trials: int, steps: int) -> None:
    """Assert that the server has every step of every trial, once."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("many")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == trials, f"{len(children)} runs of {trials}"
    for run in children:
        found = sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss"))
        assert found == list(range(1, steps + 1)), f"{run.info.run_name}: {len(found)} of {steps} steps"


def rays(uri: str, trials: int, steps: int) -> dict[str, float]:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    callback = MLflowLoggerCallback(uri, experiment_name="rays")
    callback.setup()
    each = [SimpleNamespace(config={"learning_rate": 1e-3}, number=number) for number in range(1, trials + 1)]
    # It asks for trials as keys.
    keys = [type("Trial", (), vars(trial))() for trial in each]
    took = []
    for trial in keys:
        callback.log_trial_start(trial)
    for step in range(1, steps + 1):
        for trial in keys:
            result = {**metrics(trial.number, step), "training_iteration": step}
            began = time.perf_counter()
            callback.log_trial_result(step, trial, result)
            took.append(1000 * (time.perf_counter() - began))
    took.sort()
    return {"median_ms": statistics.median(took), "p99_ms": took[int(len(took) * 0.99)], "loop_s": sum(took) / 1000}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--trials", type=int, default=64)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--rays-steps", type=int, default=5, help="of Ray's callback, which takes far longer")
    given = options.parse_args()
    begun = machine()
    folder = Path(tempfile.mkdtemp(prefix="tracking-trials-"))
    with server(folder) as (uri, _):
        own = ours(uri, folder / "sweep", given.trials, given.steps)
        there(uri, given.trials, given.steps)
        peer = rays(uri, given.trials, given.rays_steps)
    points = given.trials * given.steps
    print(f"{points} logs of {given.trials} trials: each costs its trial {own['median_ms']:.3f} ms;")
    print(f"all there {own['until_all_is_there_s']:.1f} s after the last ({own['logging_s']:.1f} s of logging)")
    print(f"Ray's callback: {peer['median_ms']:.0f} ms a log, in the loop that serves all trials")
    goals = [
        Goal("ms, a log of one of 64 trials", own["median_ms"], 1.0),
        Goal("of what it costs with Ray's callback", own["median_ms"] / peer["median_ms"], 1.0),
    ]
    conclude("tracking_trials", {"raytrainer": own, "ray": peer}, goals, begun, given.json)


if __name__ == "__main__":
    main()
