"""Whatever config is right gives a manifest that Kubernetes and KubeRay take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raytrainer.launch.manifest import text
from tests.unit.kubernetes_schemas import all_mistakes, cluster_of, core_mistakes, mistakes, needs_core, needs_crds
from tests.unit.manifest_configs import RUN, SWEEP, configs, made_of

CONFIGS = pytest.mark.parametrize("config", [RUN, SWEEP], ids=["run", "sweep"])
KINDS = pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(config=configs(), kind=st.sampled_from(["RayJob", "RayCluster"]))
def test_one_hundred_random_configs(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    for document in made_of(tmp_path, config, kind).values():
        assert all_mistakes(document) == []
        assert yaml.safe_load(text(document)) == document


@needs_crds
@CONFIGS
@KINDS
def test_kuberay_takes_it(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    *_, document = made_of(tmp_path, config, kind).values()
    assert mistakes(document) == []
    cluster = cluster_of(document)
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resource"] = {}
    cluster["headGroupSpec"]["rayStartParameters"] = {}
    cluster["workerGroupSpecs"][0]["minReplicas"] = "2"
    assert len(mistakes(document)) == 3


@needs_core
@CONFIGS
@KINDS
def test_kubernetes_takes_it(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    made = made_of(tmp_path, config, kind)
    assert [mistake for document in made.values() for mistake in core_mistakes(document)] == []
    cluster_of(list(made.values())[-1])["headGroupSpec"]["template"]["spec"]["nodeSelectors"] = {}
    made["networkpolicy.yaml"]["spec"]["podSelectors"] = {}
    assert len([mistake for document in made.values() for mistake in core_mistakes(document)]) == 2
