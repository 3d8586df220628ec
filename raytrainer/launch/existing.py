"""What becomes of a run that is in its folder already."""

from __future__ import annotations

from dataclasses import dataclass

from raytrainer.checkpoints import Store
from raytrainer.config.section import Common
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.run_record import asked_to_resume, read_record
from raytrainer.tracking import Target, check_store


@dataclass(frozen=True)
class Existing:
    """What becomes of what is in a run's folder; there may be nothing.

    Args:
        goes_on: whether the run there is gone on with.
        resumes: whether from its checkpoints: it may have been stopped before the first one.
        replaced: whether it is deleted, immediately before the new one starts.
    """

    goes_on: bool = False
    resumes: bool = False
    replaced: bool = False


def what_is_there(config: Common, folder: Store) -> Existing | None:
    """Decide what becomes of a run that is there already; changes nothing.

    Returns:
        The decision; None where the run is finished and nothing is to be done.

    Raises:
        UserError: it shall not be touched.
    """
    try:
        record = read_record(folder)
    except FileNotFoundError:
        return Existing()
    except (OSError, ValueError):
        record = None
    state = f"{record.state} at {record.progress}" if record else "unreadable"
    existing = "resume" if asked_to_resume(folder.path) else config.run.existing
    if existing == "replace":
        return Existing(replaced=True)
    if existing == "resume":
        if record is not None and record.state == "finished":
            print(f"{folder.path} is finished: {record.progress}")
            return None
        return Existing(goes_on=True, resumes=bool(folder.below("checkpoints").manifests()))
    fix = "run.existing=resume to go on with it, run.existing=replace to delete it, or another name"
    raise ArgumentsError(Problem("name", config.name, f"there is a run of that name, {state}: {folder.path}", fix))


def make_way(folder: Store, target: Target | None) -> None:
    """Delete a run or a sweep that another one replaces, where that one's MLflow store can be used.

    Args:
        folder: its folder.
        target: the new one's MLflow run; None for none.

    Raises:
        UserError: the store cannot be used, and is required.
    """
    if target is not None and target.required:
        check_store(target)
    folder.delete()
