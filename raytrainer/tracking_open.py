"""Opens the run that a target names, or says before training why that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from raytrainer.errors import Problem, UserError
from raytrainer.tracking_run import ERROR_TAG, TrackedRun, reach
from raytrainer.tracking_target import Target, masked

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


def open_run(target: Target) -> TrackedRun:
    """Open or make the run that a target names.

    Args:
        target: where to.

    Returns:
        The run, in state RUNNING.

    Raises:
        UserError: if the store cannot be reached or used, or the run or experiment is not there.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    try:
        reach(target.tracking_uri)
        client = MlflowClient(target.tracking_uri)
        run = _reopen(client, target) if target.run_id else _create(client, target)
    except UserError:
        raise
    except (MlflowException, SQLAlchemyError, OSError, ImportError, ValueError) as error:
        # The chain is cut: the messages below this one quote the address with its password.
        raise UserError(_unusable(target.tracking_uri, error)) from None
    return TrackedRun(client, run, target.tracking_uri)


def _create(client: MlflowClient, target: Target) -> Run:
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    own = dict(target.tags)
    if target.parent_run_id:
        own[MLFLOW_PARENT_RUN_ID] = target.parent_run_id
    tags: Mapping[str, str] = resolve_tags(own)  # user, source and git commit, as mlflow.start_run sets them
    experiment = _experiment(client, target)
    return client.create_run(
        experiment, tags={name: masked(value) for name, value in tags.items()}, run_name=target.run_name
    )


def _reopen(client: MlflowClient, target: Target) -> Run:
    assert target.run_id
    run = _get_run(client, target.run_id, "MLFLOW_RUN_ID")
    for name, value in target.tags.items():
        client.set_tag(target.run_id, name, value)
    if target.ends:
        if ERROR_TAG in run.data.tags:
            client.delete_tag(target.run_id, ERROR_TAG)
        client.update_run(target.run_id, status="RUNNING", name=target.run_name)
    return run


def _get_run(client: MlflowClient, run_id: str, setting: str) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise UserError(Problem(setting, run_id, "there is no such run", "the id of a run of this store")) from None
    if run.info.lifecycle_stage == "deleted":
        raise UserError(
            Problem(setting, run_id, "the run is deleted", f"mlflow.MlflowClient().restore_run({run_id!r})")
        )
    return run


def _experiment(client: MlflowClient, target: Target) -> str:
    from mlflow.exceptions import MlflowException

    if target.experiment_id:
        return target.experiment_id
    if target.experiment_name is None:
        assert target.parent_run_id, "a target names its experiment or its parent"
        return str(_get_run(client, target.parent_run_id, "MLFLOW_PARENT_RUN_ID").info.experiment_id)
    name = target.experiment_name
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another program was a moment faster
                raise
            found = client.get_experiment_by_name(name)
    assert found
    if found.lifecycle_stage == "deleted":
        fix = f"another name, or mlflow.MlflowClient().restore_experiment({found.experiment_id!r})"
        raise UserError(Problem("MLFLOW_EXPERIMENT_NAME", name, "the experiment is deleted", fix))
    return str(found.experiment_id)


def _unusable(uri: str, error: Exception) -> Problem:
    reason = " ".join(masked(str(error)).split()) or type(error).__name__
    code = getattr(error, "error_code", "")
    if code in {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}:
        fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to who may write"
    elif isinstance(error, ImportError):
        fix = "install the Python driver of this database"
    elif uri.startswith(("/", "file:")):
        fix = "sqlite:///mlflow.db (mlflow migrate-filestore takes the old runs along)"
    elif uri.startswith("http"):
        fix = "start the server (mlflow server), correct the address, or train without MLflow: report_to='none'"
    else:
        fix = "an address such as sqlite:///mlflow.db or http://HOST:5000, or train without MLflow: report_to='none'"
    return Problem("MLFLOW_TRACKING_URI", masked(uri), reason[:400], fix)
