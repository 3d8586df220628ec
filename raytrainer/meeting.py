"""Where the ranks of a group wait for each other in calls of ``ray.train`` of the user's: at the relay."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from ray.train.v2._internal.execution.worker_group import state, worker_group


@dataclass(frozen=True)
class _Method:
    """A method of Ray Train's synchronization actor, called as an actor's."""

    meeting: Meeting
    name: str

    def remote(self, *arguments: Any, **named: Any) -> Any:
        meeting = self.meeting
        return meeting.relay.meet.remote(meeting.group, meeting.limits, self.name, arguments, named)


@dataclass(frozen=True)
class Meeting:
    """What Ray Train takes for the handle of its synchronization actor. Travels between processes.

    Args:
        relay: the actor that has the meeting.
        limits: what Ray Train's actor is made with.
        group: name of the group of workers, of which no other has the same.
    """

    relay: Any
    limits: dict[str, Any]
    group: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def broadcast_from_rank_zero(self) -> _Method:
        return _Method(self, "broadcast_from_rank_zero")

    @property
    def set_required_ranks(self) -> _Method:
        return _Method(self, "set_required_ranks")

    @property
    def reset(self) -> _Method:
        return _Method(self, "reset")


class _Meetings:
    """Stands where Ray Train's controller looks for the class of its synchronization actor."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def options(self, **_: Any) -> _Meetings:
        return self

    def remote(self, **limits: Any) -> Meeting:
        return Meeting(self._relay, limits)


def meet_at(relay: Any) -> None:
    """Controller: have the groups of this process meet at a relay.

    Ray Train starts an actor for it with every group, whose process imports Ray and Ray Train while the workers want
    the cores; most runs never need it.

    Args:
        relay: the actor; see :meth:`raytrainer.relay.Relay.meet`.
    """
    worker_group.SynchronizationActor = _Meetings(relay)  # type: ignore[attr-defined,assignment]  # put in the place of it
    state._shutdown_sync_actor = _end  # type: ignore[assignment]  # put in the place of it


def _end(meeting: Meeting) -> None:
    meeting.relay.part.remote(meeting.group)
