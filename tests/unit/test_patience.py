"""Patience: failures that pass are waited for, others are raised at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrainer.patience import patiently

PASSING: list[Exception] = [
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError("When uploading: AWS Error SLOW_DOWN"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("timed out"),
    pyarrow.ArrowException("gone for a while"),
]
LASTING: list[Exception] = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    OSError(errno.EROFS, os.strerror(errno.EROFS)),
    FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
    FileNotFoundError("Path does not exist"),
    NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)),
    OSError("When uploading part for key 'k': AWS Error ACCESS_DENIED during UploadPart operation"),
    OSError("When uploading: AWS Error NO_SUCH_BUCKET during CreateMultipartUpload operation"),
    ValueError("a mistake of ours"),
    KeyError("no storage has it"),
]


class Storage:
    """Fails with what it is given, in that order, then answers."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


def outcome(action: Callable[[], str], **kwargs: float) -> tuple[str, list[str], list[float]]:
    """Return the answer, what was said, and the pauses."""
    said: list[str] = []
    pauses: list[float] = []
    return patiently(action, said.append, sleep=pauses.append, **kwargs), said, pauses


def test_what_works_is_done_once_and_nothing_is_said() -> None:
    storage = Storage()
    assert outcome(storage) == ("answer", [], [])
    assert storage.tries == 1


@pytest.mark.parametrize("failure", PASSING, ids=repr)
def test_a_failure_that_passes_is_told_and_so_is_its_end(failure: Exception) -> None:
    answer, said, pauses = outcome(Storage(failure))
    assert answer == "answer"
    assert said == [
        f"the storage fails, and is tried again: {failure}",
        "the storage works again after 0 s",
    ]
    assert pauses == [0.25]


@given(st.lists(st.sampled_from(PASSING), min_size=1, max_size=12))
def test_however_often_it_fails_it_is_told_once_and_pauses_grow_to_a_limit(failures: list[Exception]) -> None:
    storage = Storage(*failures)
    answer, said, pauses = outcome(storage)
    assert (answer, storage.tries, len(said)) == ("answer", len(failures) + 1, 2)
    assert str(failures[0]) in said[0]
    assert pauses == [min(0.25 * 2**count, 15) for count in range(len(failures))]


@pytest.mark.parametrize("failure", LASTING, ids=repr)
def test_what_another_try_cannot_mend_is_raised_at_once(failure: Exception) -> None:
    storage = Storage(failure)
    with pytest.raises(type(failure)) as caught:
        outcome(storage)
    assert caught.value is failure
    assert storage.tries == 1


def test_a_failure_that_becomes_lasting_is_raised_then() -> None:
    storage = Storage(PASSING[0], PASSING[1], LASTING[0])
    with pytest.raises(OSError) as caught:
        outcome(storage)
    assert caught.value.errno == errno.ENOSPC
    assert storage.tries == 3


def test_it_gives_up_with_the_last_failure() -> None:
    failures = [OSError(f"failure {number}") for number in range(10**5)]
    storage = Storage(*failures)
    said: list[str] = []
    with pytest.raises(OSError) as caught:
        patiently(storage, said.append, give_up=0.01, sleep=lambda _: None)
    assert storage.tries > 1
    assert str(caught.value) == f"failure {storage.tries - 1}"
    assert said == ["the storage fails, and is tried again: failure 0"]


def test_ctrl_c_is_not_waited_out() -> None:
    storage = Storage(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        outcome(storage)
    assert storage.tries == 1


def test_a_mount_that_comes_back_meanwhile() -> None:
    there: list[str] = []

    def action() -> str:
        if not there:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return there[0]

    assert patiently(action, lambda _: None, sleep=lambda _: there.append("mounted")) == "mounted"
