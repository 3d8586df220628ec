"""Configs that have a section ``kubernetes``: a good one to change, and any that are right."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from raytrainer.launch.manifest import manifest

RUN: dict[str, Any] = {
    "name": "dates",
    "task": "seq2seq",
    "model": {"name": "google-t5/t5-small"},
    "data": {"train": "train.jsonl", "eval": "eval.jsonl"},
    "training": {"max_steps": 100},
    "scaling": {"num_workers": 4, "use_gpu": True},
    "run": {"storage_path": "s3://bucket/runs", "max_failures": 3},
    "mlflow": {"tracking_uri": "https://mlflow.example.com"},
    "kubernetes": {"image": "registry.example.com/train:1", "ray_version": "2.60.0"},
}
SWEEP: dict[str, Any] = {
    **RUN,
    "scaling": {"num_workers": 2, "use_gpu": True},
    "search_space": {"training.learning_rate": {"loguniform": [1e-4, 1e-2]}},
    "tune": {"metric": "eval_loss", "mode": "min", "num_samples": 8, "max_concurrent_trials": 3},
}
NOTHING = object()


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a config with other settings, by keys with dots; NOTHING takes one away."""
    made = copy.deepcopy(config)
    for key, value in changes.items():
        *above, last = key.split(".")
        section = made
        for step in above:
            section = section.setdefault(step, {})
        if value is NOTHING:
            section.pop(last, None)
        else:
            section[last] = value
    return made


def made_of(
    folder: Path, config: dict[str, Any], kind: Any = "RayJob", settings: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the documents of a config."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return manifest(str(path), settings or [], kind)


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
MEMORY = st.builds("{}{}".format, st.integers(1, 512), st.sampled_from(["Gi", "G", "Mi"]))
DURATIONS = st.sampled_from(["90s", "10m", "1h30m", "0.5h"])
SECRETS = st.fixed_dictionaries({"secret": NAMES, "key": st.sampled_from(["uri", "password", "HF_TOKEN"])})
TOLERATIONS = st.one_of(
    st.fixed_dictionaries({"key": NAMES}, optional={"effect": st.sampled_from(["NoSchedule", "NoExecute"])}),
    st.fixed_dictionaries({"key": NAMES, "operator": st.just("Equal"), "value": NAMES}),
)
SLICES = [("TPU-V6E", "4x4", 4), ("TPU-V6E", "2x4", 1), ("TPU-V5P", "2x2x2", 2), ("TPU-V4", "2x2x1", 1)]


@st.composite
def scalings(draw: st.DrawFn, several: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a section ``scaling`` and what of ``kubernetes`` goes with it.

    Args:
        draw: hypothesis'.
        several: whether the number of workers may change.
    """
    device = draw(st.sampled_from(["cpu", "gpu", "tpu"]))
    hosts = 1
    scaling: dict[str, Any] = {}
    beside: dict[str, Any] = {"workers_per_pod": draw(st.integers(1, 8))}
    if device == "tpu":
        accelerator, topology, hosts = draw(st.sampled_from(SLICES))
        scaling = {"use_tpu": True, "accelerator_type": accelerator, "topology": topology}
        beside = {}
    elif device == "gpu":
        each = draw(st.sampled_from([1, 2, 4]))
        scaling = {"use_gpu": True, "resources_per_worker": {"GPU": each, "CPU": draw(st.integers(1, 4))}}
        beside |= {"gpu": draw(st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]))}
        if draw(st.booleans()):
            scaling["accelerator_type"] = "H100"
    elif draw(st.booleans()):
        scaling = {"resources_per_worker": {"CPU": draw(st.integers(1, 8)), "fast": 1.0}}
        scaling |= {"label_selector": {"zone": "a"}} if draw(st.booleans()) else {}
    if "resources_per_worker" in scaling or draw(st.booleans()):
        beside["cpus"] = draw(st.integers(8, 32)) / 1.0
    low = draw(st.integers(1, 8)) * hosts
    high = low + draw(st.integers(0, 4)) * hosts
    return {**scaling, "num_workers": [low, high] if several and draw(st.booleans()) else low}, beside


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Return a config that is right, of a run or of a sweep."""
    sweep, queue = draw(st.booleans()), draw(st.booleans())
    spot = draw(st.sampled_from([None, "gke", "eks", "karpenter", "aks"]))
    scaling, beside = draw(scalings(several=not queue))
    optional = {
        "namespace": NAMES,
        "image_pull_secrets": st.lists(NAMES, max_size=2),
        "working_dir": st.sampled_from(["/app", "s3://bucket/code.zip"]),
        "memory": MEMORY,
        "shm": MEMORY,
        "head": st.fixed_dictionaries(
            {"cpus": st.just(4.0), "memory": MEMORY}, optional={"node_selector": st.just({})}
        ),
        "node_selector": st.dictionaries(NAMES, NAMES, max_size=2),
        "tolerations": st.lists(TOLERATIONS, max_size=2),
        "user": st.integers(1, 65000),
        "groups": st.lists(st.integers(1, 999), max_size=2),
        "service_account": NAMES,
        "env": st.dictionaries(st.sampled_from(["HF_HOME", "WANDB_MODE"]), NAMES | SECRETS),
        "env_from": st.lists(NAMES, max_size=2),
        "ttl": DURATIONS,
        "active_deadline": DURATIONS,
        "pre_running_deadline": DURATIONS,
        "backoff_limit": st.integers(0, 5),
        "auth": st.sampled_from(["token", "disabled"]),
        "redis": st.fixed_dictionaries({"address": st.just("redis:6379")}, optional={"password": SECRETS}),
    }
    kubernetes = {**RUN["kubernetes"], **beside, **draw(st.fixed_dictionaries({}, optional=optional))}
    path = "s3://bucket/runs"
    if draw(st.booleans()):
        kubernetes["storage"] = {"pvc": draw(NAMES), "mount": "/mnt/data"}
        path = "/mnt/data/runs"
    elif draw(st.booleans()):
        kubernetes["storage"] = {"secret": draw(NAMES)}
    kubernetes |= {"queue": draw(NAMES)} if queue else {}
    kubernetes |= {"spot": spot} if spot else {}
    if not queue and not scaling.get("use_tpu") and draw(st.booleans()):
        kubernetes["pods"] = [draw(st.integers(0, 8)), draw(st.integers(9, 99))]
    config = {**(SWEEP if sweep else RUN), "scaling": scaling, "kubernetes": kubernetes}
    config |= {"name": draw(NAMES), "run": {"storage_path": path, "max_failures": 3}}
    if draw(st.booleans()):
        config["mlflow"], kubernetes["mlflow"] = {}, draw(SECRETS)
    return changed(config, {"tune.max_failures": 3} if sweep else {})
