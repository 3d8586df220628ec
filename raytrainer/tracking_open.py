"""Opens the run that a target names, or says before training why that cannot be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from raytrainer.errors import Problem, UserError
from raytrainer.secrets import masked
from raytrainer.tracking_reach import reach, retries
from raytrainer.tracking_run import KEY_TAG, RUNNING, TrackedRun
from raytrainer.tracking_store import ERROR_TAG, forget_error, tag_value
from raytrainer.tracking_target import Target

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_Entity = TypeVar("_Entity")
# How often a run is tried to be made before that is given up for now.
_TRIES = 3


def open_run(run: TrackedRun) -> None:
    """Open or make a run in its store, the one that it appears under before; its state is RUNNING then.

    Args:
        run: which one.

    Raises:
        UserError: if the store cannot be reached or used, or the run or experiment is not there.
    """
    if run.parent is not None and run.parent.run_id is None:
        open_run(run.parent)
    target = run.target
    with _store(target) as client:
        if target.run_id:
            made = _reopen(client, target.run_id, target)
        else:
            made = _reopen_known(client, run) or _create(client, run)
    run.opened(made.info.run_id, made.info.experiment_id, made.data.params, made.data.tags)


def check_store(target: Target) -> None:
    """Find out before any worker starts whether the run that a target names could be opened; makes nothing.

    Args:
        target: where to.

    Raises:
        UserError: as :func:`open_run` does.
    """
    uri = target.tracking_uri
    file = Path(uri.partition(":///")[2].partition("?")[0]) if uri.startswith("sqlite") else None
    if file is not None and not file.exists() and not target.run_id:
        # MLflow would make the database.
        if not os.access(file.parent, os.W_OK):
            raise UserError(_unusable(uri, OSError(f"there is no folder {file.parent} that can be written to")))
        return
    with _store(target) as client:
        if target.run_id:
            _get_run(client, target.run_id, "MLFLOW_RUN_ID")
        elif target.experiment_name is None:
            _experiment(client, target)
        elif (found := client.get_experiment_by_name(target.experiment_name)) is not None:
            _check_alive("MLFLOW_EXPERIMENT_NAME", target.experiment_name, found.lifecycle_stage)


@contextlib.contextmanager
def _store(target: Target) -> Iterator[MlflowClient]:
    """Give a client of the store, and turn what MLflow raises inside the block into a user's mistake."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with retries(1):
            reach(target.tracking_uri)
            yield MlflowClient(target.tracking_uri)
    except UserError:
        raise
    except (MlflowException, SQLAlchemyError, OSError, ImportError, ValueError) as error:
        # The chain is cut: the messages below this one quote the address with its password.
        raise UserError(_unusable(target.tracking_uri, error)) from None


def _create(client: MlflowClient, run: TrackedRun) -> Run:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    target, head = run.target, run.journal.head
    parent = run.parent.run_id if run.parent is not None else target.parent_run_id
    experiment = run.parent.experiment_id if run.parent is not None else None
    experiment = experiment or _experiment(client, target)
    given = {name: tag_value(value) for name, value in head.tags.items()}
    tags = {**given, KEY_TAG: head.key, **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
    run.journal.claim()
    for tries_left in reversed(range(_TRIES)):
        if run.doubtful:
            made = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{head.key}'", max_results=1)
            if made:
                return _reopen(client, made[0].info.run_id, target)
        run.doubtful = True
        try:
            # A request that is repeated would make a second run where only the answer to the first was lost.
            with retries(0):
                return client.create_run(experiment, head.began, tags, target.run_name)
        except MlflowException:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _reopen_known(client: MlflowClient, run: TrackedRun) -> Run | None:
    """Open the run that the record names; None where the store has it no more."""
    known = run.journal.head.run_id
    if known is None:
        return None
    try:
        return _reopen(client, known, run.target)
    except UserError:
        run.begin_anew()
        return None


def _reopen(client: MlflowClient, run_id: str, target: Target) -> Run:
    run = _get_run(client, run_id, "MLFLOW_RUN_ID")
    for name, value in target.tags.items():
        client.set_tag(run_id, name, tag_value(masked(value, name)))
    if target.ends:
        if run.data.tags.pop(ERROR_TAG, None) is not None:
            forget_error(client, run_id)
        client.update_run(run_id, status=RUNNING, name=target.run_name)
    return run


def _get_run(client: MlflowClient, run_id: str, setting: str) -> Run:
    run = _found(setting, run_id, client.get_run)
    _check_alive(setting, run_id, run.info.lifecycle_stage)
    return run


def _experiment(client: MlflowClient, target: Target) -> str:
    if target.experiment_id:
        experiment = _found("MLFLOW_EXPERIMENT_ID", target.experiment_id, client.get_experiment)
        _check_alive("MLFLOW_EXPERIMENT_ID", target.experiment_id, experiment.lifecycle_stage)
        return target.experiment_id
    if target.experiment_name is None:
        assert target.parent_run_id, "a target names its experiment or its parent"
        return str(_get_run(client, target.parent_run_id, "MLFLOW_PARENT_RUN_ID").info.experiment_id)
    found = client.get_experiment_by_name(target.experiment_name)
    if found is None:
        return _new_experiment(client, target.experiment_name)
    _check_alive("MLFLOW_EXPERIMENT_NAME", target.experiment_name, found.lifecycle_stage)
    return str(found.experiment_id)


def _new_experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return client.create_experiment(name)
    except MlflowException as error:
        faster = client.get_experiment_by_name(name)  # another program may have made it in between
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or faster is None:
            raise
        return str(faster.experiment_id)


def _found(setting: str, key: str, get: Callable[[str], _Entity]) -> _Entity:
    from mlflow.exceptions import MlflowException

    try:
        return get(key)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise UserError(
            Problem(setting, key, "the store has none of this id", "an id that it has, or unset it")
        ) from None


def _check_alive(setting: str, key: str, stage: str) -> None:
    if stage == "deleted":
        raise UserError(Problem(setting, key, "it is deleted", "another one, or restore it (mlflow ... restore)"))


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
