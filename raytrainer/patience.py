"""Storage that fails for a while is asked again; what another try cannot mend is raised at once."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

import pyarrow

Answer = TypeVar("Answer")

# Less than what a rank waits for the others in a collective operation, whose error would say nothing of the storage.
GIVE_UP_S = 1500.0
_LONGEST_PAUSE_S = 15.0
_LASTING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR),
    *(errno.EISDIR, errno.ELOOP),
}
# What S3 says of a request that no waiting makes right, as pyarrow writes it; it has no errno.
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "NO_SUCH_BUCKET", "SIGNATURE_DOES_NOT_MATCH")


def patiently(
    action: Callable[[], Answer],
    say: Callable[[str], None],
    give_up: float = GIVE_UP_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Do something with the storage, again and again while it fails in a way that passes.

    Args:
        action: what to do; doing it twice does no harm.
        say: is told of the first failure, and that it works again.
        give_up: seconds after which the failure is raised.
        sleep: waits between two tries.

    Returns:
        What ``action`` returned.

    Raises:
        OSError: the disk is full, the place is not writable, there is no such file, or ``give_up`` seconds are over.
    """
    began, pause, failed = time.monotonic(), 0.25, False
    while True:
        try:
            answer = action()
        except (OSError, pyarrow.ArrowException) as error:
            lasting = isinstance(error, FileNotFoundError) or getattr(error, "errno", None) in _LASTING
            lasting = lasting or any(word in str(error) for word in _REFUSED)
            if lasting or time.monotonic() - began > give_up:
                raise
            if not failed:
                say(f"the storage fails, and is tried again: {error}")
            failed = True
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            if failed:
                say(f"the storage works again after {time.monotonic() - began:.0f} s")
            return answer
