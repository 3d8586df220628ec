"""What an autoscaler could bring, by its configuration."""

from __future__ import annotations

import math
from typing import Any

import pytest

from raytrainer.autoscaler import Autoscaler

HEAD: dict[str, Any] = {"resources": {"CPU": 4}, "node_config": {}}
SMALL: dict[str, Any] = {"resources": {"CPU": 2}, "max_workers": 10}
LARGE: dict[str, Any] = {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 3}


def autoscaler(most: int | None = 8, **types: Any) -> Autoscaler:
    total = {} if most is None else {"max_workers": most}
    return Autoscaler.of({**total, "head_node_type": "head", "available_node_types": {"head": HEAD, **types}})


@pytest.mark.parametrize(
    ("brings", "asked", "slots"),
    [
        (autoscaler(small=SMALL), {"CPU": 1.0}, 16),
        # Three large ones, and small ones to the limit of all together.
        (autoscaler(small=SMALL, large=LARGE), {"CPU": 1.0}, 34),
        (autoscaler(small=SMALL, large=LARGE), {"GPU": 1.0}, 3),
        (autoscaler(small=SMALL, large=LARGE), {"GPU": 2.0}, 0),
        (autoscaler(2, large=LARGE), {"CPU": 3.0}, 4),
        (autoscaler(0, large=LARGE), {"CPU": 3.0}, 0),
        # A type without a number of its own has that of all together; the head's type has none.
        (autoscaler(5, small={"resources": {"CPU": 1}}), {"CPU": 1.0}, 5),
        (autoscaler(), {"CPU": 1.0}, 0),
        (autoscaler(None, small=SMALL), {"CPU": 2.0}, 10),
        # Machines of one's own, of which the configuration says addresses only; and one that is elsewhere.
        (autoscaler(2, own={"resources": {}, "max_workers": 2}), {"CPU": 1.0}, math.inf),
        (Autoscaler(), {"GPU": 64.0}, math.inf),
    ],
)
def test_room(brings: Autoscaler, asked: dict[str, float], slots: float) -> None:
    assert brings.room(asked) == slots


def test_it_says_what_it_is() -> None:
    assert str(autoscaler(large=LARGE)) == "an autoscaler for at most 8 node(s), 3 of large (8 CPU, 1 GPU)"
    assert str(Autoscaler()) == "an autoscaler"
