"""What a trainer does on the driver: sends train, evaluate and predict to the cluster, and takes the results home."""

from __future__ import annotations

import dataclasses
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from transformers import TrainerControl, TrainerState
from transformers.trainer_utils import BestRun

from raytrainer import checks, cluster, shipping
from raytrainer.arguments import extra_attributes, field_values
from raytrainer.checkpoints import Store, on_this_machine
from raytrainer.claim import claimed
from raytrainer.deepspeed_config import config_for, read_config
from raytrainer.importing import imported_meanwhile
from raytrainer.job import OF_MLFLOW, Job, ray_run
from raytrainer.keeping import checkpoint_store, has_storage, keep, run_folder
from raytrainer.precision import Precision
from raytrainer.recorded import Recorded
from raytrainer.recording import Recording
from raytrainer.resuming import Recovery
from raytrainer.run import Outcome
from raytrainer.run_record import ALLOW_CHANGES_VARIABLE, asked_to_resume
from raytrainer.staying import arrived, let_go
from raytrainer.tracking import Target, Tracker, open_tracker, tracking_target, ui_command
from raytrainer.watching import sweep, watched_fit


class DriverSide(Recorded):
    """Mixin for the driver's objects of a trainer class: ``train``, ``evaluate`` and ``predict`` run on the cluster.

    Attributes:
        precision: what the last job computed in, and why; None before it.
        phases: seconds by phase of the last job, ``ray`` (to start or join the cluster) and those of
            :class:`raytrainer.run.Outcome`; empty before it.
        mlflow_command: the command that shows the MLflow run, or its page; None without MLflow.
    """

    precision: Precision | None
    phases: dict[str, float]
    mlflow_command: str | None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = checks.train_call(self, args, kwargs)
        return self._on_cluster("train", args, kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        checks.evaluate_call(self, args, kwargs)
        return self._on_cluster("evaluate", args, kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return self._on_cluster("predict", args, kwargs)

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], Any] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "minimize",
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Search for training arguments on the cluster, with transformers' signature.

        Args:
            hp_space: ``hp_space(None)`` returns a dictionary of Ray Tune's domains; with Optuna ``hp_space(trial)``
                asks the trial. Names are fields of the training arguments, and what ``model_init(trial)`` looks up.
                Default: transformers' own.
            compute_objective: of an evaluation's metrics; default transformers' own.
            n_trials: how many.
            direction: ``"minimize"``, ``"maximize"``, or a list of these for several objectives.
            backend: ``"ray"`` or ``"optuna"``; None for the one that ``hp_space`` is written for.
            hp_name: names a trial; the name is its ``run_name``.
            **kwargs: what ``raytrainer.searching.options.Options`` has: of ``ray.tune.run`` what is right here,
                ``sampler`` for Optuna, and ``keep``, ``scope`` and ``seed``.

        Returns:
            The best run, for a list of directions those of the Pareto front. ``run_id`` names the trial's folder;
            ``run_summary`` has the search's folder, the run's checkpoint and all results.

        Raises:
            UserError: a mistake that was found before the first trial.
            TrainingFailed: no trial came to anything.
        """
        # Ray Tune and the search algorithms, which few programs need: a second of import.
        from raytrainer.searching import Asked, Subject, search

        checks.search_call(self)
        let_go()
        precision, loss_scale, batch = self._asked
        asked = Asked(hp_space, compute_objective, n_trials, direction, backend, hp_name, kwargs)
        subject = Subject(
            given=self.args,
            model_init=vars(self).get("model_init"),
            check=lambda given: checks.own(self._scaling, self._run, precision, loss_scale, batch, given),
            scaling=self._scaling,
            run=self._run,
            folder=run_folder(self._run, on_this_machine(self.args.output_dir)),
            job=lambda: self._job("train", (), {}),
        )
        return search(subject, asked)

    def _on_cluster(self, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        folder = run_folder(self._run, on_this_machine(self.args.output_dir))
        if action != "train":
            return self._carry_out(folder, action, args, kwargs)
        with claimed(folder, "the run's folder", folder.path):
            return self._carry_out(folder, action, args, kwargs)

    def _carry_out(self, folder: Store, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = tracking_target(self.args, os.environ, os.getcwd())
        began = time.monotonic()
        with imported_meanwhile("mlflow.tracking" if target is not None and action != "predict" else None):
            arrived()
            cluster.connect(cluster.cpus(self._scaling))
            connected_s = time.monotonic() - began
        job = self._job(action, args, kwargs)
        resumed = kwargs.get("resume_from_checkpoint", args[0] if args else None) if action == "train" else None
        if target is not None and target.system_metrics and action == "train":
            job = dataclasses.replace(job, system_metrics=True)
        tracker = self._open_tracker(action, target, folder, again=resumed is True or asked_to_resume(folder.path))
        try:
            outcome = watched_fit(job, tracker, folder)
        finally:
            if not has_storage(self._run):
                sweep(str(job.run.storage_path), str(job.run.name))
        self._take_home(outcome)
        vars(self).update(phases={"ray": connected_s, **outcome.phases})
        return outcome.value

    def _open_tracker(self, action: str, target: Target | None, folder: Store, again: bool) -> Tracker | None:
        """Open an MLflow run for a training; what is evaluated afterwards goes on with the same one."""
        if target is None or action == "predict":
            return None
        if action == "evaluate" and target.run_id is None:
            target = dataclasses.replace(target, run_id=self._mlflow_run)
        tracker = open_tracker(target, folder, again)
        vars(self).update(_mlflow_run=tracker.run_id or tracker.run.key, mlflow_command=ui_command(tracker))
        return tracker

    def _job(self, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        precision, loss_scale, global_train_batch_size = self._asked
        values = {**field_values(self.args), "output_dir": on_this_machine(self.args.output_dir)}
        # Its content: a path is one of this machine's.
        values["deepspeed"] = config_for(action, read_config(values["deepspeed"]))
        extra = extra_attributes(self.args)
        return Job(
            factory=Recording(self._kind, self._pack_constructor()),
            arguments=(type(self.args), values),
            attributes=self._pack(extra, extra),
            action=action,
            # What a call brings is not kept in the object store for the next one.
            call=self._pack((args, kwargs), {"the call's arguments": (args, kwargs)}, shipping.Shipper(self._shipper)),
            scaling=self._scaling,
            run=ray_run(self._run, os.path.join(values["output_dir"], "ray")),
            state=None if action == "train" else dataclasses.asdict(self.state),
            weights=self._weights,
            precision=precision,
            loss_scale=loss_scale,
            global_train_batch_size=global_train_batch_size,
            recovery=self._recovery(values["output_dir"]) if action == "train" else None,
            travelling=OF_MLFLOW,
            stays=not any(values.get(name) for name in _LEAVES_TRACES),
        )

    def _recovery(self, output_dir: str) -> Recovery:
        return Recovery(
            store=checkpoint_store(self._run, output_dir),
            run=uuid.uuid4().hex,
            keep=keep(self.args, self._run),
            allow_changes=self._allow_changes or bool(os.environ.get(ALLOW_CHANGES_VARIABLE)),
        )

    def _pack_constructor(self) -> shipping.Parcel:
        args, kwargs = self._call
        parts = {**self._bound, **self._assigned}
        parts |= {f"{operation}()": callback for operation, callback in self._operations}
        return self._pack((args, kwargs, self._assigned, self._operations), parts)

    def _pack(
        self, thing: object, parts: dict[str, object], shipper: shipping.Shipper | None = None
    ) -> shipping.Parcel:
        try:
            parcel: shipping.Parcel = (shipper or self._shipper).pack(thing, self._stand_in)
        except Exception as failure:
            raise shipping.explain(failure, parts, self._stand_in) from failure
        return parcel

    def _stand_in(self, obj: object) -> str | None:
        """Name what does not travel, because each worker has its own."""
        if obj is self:
            return "trainer"
        return "arguments" if obj is self.args or obj is self._recorded_arguments else None

    def _take_home(self, outcome: Outcome) -> None:
        vars(self).update(precision=outcome.precision)
        if outcome.state is not None:
            vars(self)["state"] = TrainerState(**outcome.state)
        self._restore_callbacks(outcome.callbacks)
        if outcome.settings is not None:
            vars(self).update(_settings=outcome.settings, control=TrainerControl(**outcome.settings.control))
        if outcome.weights is not None:
            self._keep_weights(outcome.weights)
        if outcome.schedule is not None:
            self._keep_schedule(outcome.schedule)


# Arguments that change a process for good: its kernels, its modules, torch's own settings.
_LEAVES_TRACES = (
    *("deepspeed", "fsdp", "parallelism_config", "full_determinism", "tf32", "torch_compile", "use_liger_kernel"),
)
