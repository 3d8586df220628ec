"""How many workers a group has: Ray Train's policies, held to what the job and the cluster can do."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import ray
from ray.train.v2._internal.execution.scaling_policy import (
    AUTOSCALING_REQUESTS_GET_TIMEOUT_S,
    ElasticScalingPolicy,
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
)
from ray.train.v2.api.config import ScalingConfig

from raytrainer.elastic import nearest_size
from raytrainer.wire import Wish

# Between two looks for nodes, while there are too few: Ray's controller asks without a pause.
_PAUSE_S = 0.5


class UnaskingPolicy(FixedScalingPolicy):
    """Controller: a group of one size on a cluster without an autoscaler, of which nothing could be asked.

    Ray Train registers its request with an actor of Ray Data's, which takes seconds to start on the way to the first
    step.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class SharingPolicy(ElasticScalingPolicy):
    """Controller: starts and resizes the group in sizes that divide the global batch.

    Args:
        scaling: the request, elastic.
        sizes: the numbers of workers that may be, at least one.
        relay: through it a running group is asked to save and to leave, and starts anew in its new size; None where
            nothing could be resumed: the group keeps the workers it began with.
    """

    def __init__(self, scaling: ScalingConfig, sizes: list[int], relay: Any) -> None:
        super().__init__(scaling)
        self._sizes, self._relay = sizes, relay

    def make_decision_for_non_running_worker_group(self) -> Any:
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            time.sleep(_PAUSE_S)
        return decision

    def make_decision_for_running_worker_group(self, *args: Any, **kwargs: Any) -> Any:
        if self._relay is None:
            self._maybe_send_resource_request()  # type: ignore[no-untyped-call]  # Ray's own
        elif isinstance(super().make_decision_for_running_worker_group(*args, **kwargs), ResizeDecision):
            # Ray would end the workers where they are, and what they did since the last checkpoint would be lost.
            self._relay.ask.remote(Wish.LEAVE)
        return NoopDecision()

    def _get_reserved_resources(self) -> Any:
        # Ray looks at the nodes every 20 s, and a group that is sized for a node that is gone waits 60 s for it. Where
        # this look fails, the one that follows says so.
        if time.monotonic() - self._latest_reserved_resources_query_time >= self.GET_RESERVED_RESOURCES_INTERVAL_S:
            look = self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
            with contextlib.suppress(Exception):
                ray.get(look, timeout=AUTOSCALING_REQUESTS_GET_TIMEOUT_S)
        return super()._get_reserved_resources()

    def _get_num_workers_for_resource_request(self) -> int:
        return self._sizes[-1]

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        return nearest_size(self._sizes, super()._count_possible_workers(reserved_resources))
