"""What all unit tests hold to: none of them starts Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(autouse=True)
def _no_ray() -> Iterator[None]:
    before = ray.is_initialized()
    yield
    assert before or not ray.is_initialized(), "this test started a Ray: it belongs into tests/ray"
