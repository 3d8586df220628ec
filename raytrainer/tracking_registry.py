"""A trained model in MLflow: its files in the store in the form of MLflow's transformers flavour, and its version."""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrainer.checkpoints import Store, parted
from raytrainer.tracking_entry import Model

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

_KEY_TAG = "raytrainer.key"
# Which pipeline a model is for: transformers' own tables of classes, by the pipeline's name.
_PIPELINES = {
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "text-generation": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "fill-mask": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
}
# Of what else a pipeline is made: the file that a component leaves beside the model, and who reads it.
_COMPONENTS = {
    "tokenizer": ("tokenizer_config.json", "AutoTokenizer"),
    "image_processor": ("preprocessor_config.json", "AutoImageProcessor"),
    "processor": ("processor_config.json", "AutoProcessor"),
}
_WEIGHTS = (".safetensors", ".bin", ".pt")


def send_model(client: MlflowClient, run_id: str, experiment_id: str, model: Model) -> None:
    """Put a model into the store and its registry; what is there already stays as it is.

    Args:
        client: of the store.
        run_id: the run that trained it.
        experiment_id: the run's.
        model: which, and what becomes of it.

    Raises:
        FileNotFoundError: its folder is gone.
    """
    logged = _logged_model(client, run_id, experiment_id, model)
    if not model.name:
        return
    number = _version(client, run_id, model, logged)
    if model.alias:
        client.set_registered_model_alias(model.name, model.alias, number)


def write_flavour(folder: Path, target: Path, **known: Any) -> None:
    """Write a model's folder as MLflow's transformers flavour reads it; loads no weights and asks no hub.

    MLflow's own ``save_model`` takes a folder only with a tokenizer in it, and not with transformers 5.

    Args:
        folder: what ``save_pretrained`` wrote.
        target: a folder that is not there yet.
        **known: what else MLmodel says: ids of the run and of the model.
    """
    from mlflow.models import Model as MLmodel

    shutil.copytree(folder, target / "model")
    config = json.loads((folder / "config.json").read_bytes())
    beside = shutil.ignore_patterns(*(f"*{ending}" for ending in _WEIGHTS))
    components = [name for name, (file, _) in _COMPONENTS.items() if (folder / file).exists()]
    for name in components:
        shutil.copytree(folder, target / "components" / name, ignore=beside)
    kinds = {f"{name}_type": _COMPONENTS[name][1] for name in components}
    described = MLmodel(**known)
    described.add_flavor(
        "transformers",
        transformers_version=version("transformers"),
        code=None,
        task=pipeline_of(config),
        pipeline_model_type=config["architectures"][0],
        source_model_name=config.get("model_type"),
        model_binary="model",
        # A processor is no part of a pipeline; its kind alone names it.
        components=[name for name in components if name != "processor"],
        **kinds,
    )
    described.save(str(target / "MLmodel"))
    (target / "requirements.txt").write_text("\n".join(_requirements()) + "\n")


def pipeline_of(config: dict[str, Any]) -> str:
    """Return the pipeline for a model's configuration; ``feature-extraction`` where transformers has none for it."""
    from transformers.models.auto import modeling_auto

    for task, table in _PIPELINES.items():
        classes = getattr(modeling_auto, table).get(config.get("model_type"), ())
        if config["architectures"][0] in ([classes] if isinstance(classes, str) else classes):
            return task
    return "feature-extraction"


def _logged_model(client: MlflowClient, run_id: str, experiment_id: str, model: Model) -> LoggedModel:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    wanted = f"tags.`{_KEY_TAG}` = '{model.key}'"
    found = client.search_logged_models([experiment_id], wanted, max_results=1)
    score = {str(model.metric): str(model.value)} if model.metric else {}
    logged = (
        found[0]
        if found
        else client.create_logged_model(experiment_id, "model", run_id, {_KEY_TAG: model.key}, params=score)
    )
    if logged.status != LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory() as here:
            source, target = _local(model.place, Path(here)), Path(here) / "flavour"
            known = {"run_id": run_id, "model_id": logged.model_id, "model_uuid": logged.model_id}
            write_flavour(source, target, artifact_path=logged.artifact_location, **known)
            client.log_model_artifacts(logged.model_id, str(target))
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        logged = client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return logged


def _local(place: str, here: Path) -> Path:
    above, last = parted(place)
    store = Store(above)
    folder = store.folder / last if store.local else here / "fetched"
    if not store.local:
        store.fetch_folder(last, folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(place)
    return folder


def _version(client: MlflowClient, run_id: str, model: Model, logged: LoggedModel) -> str:
    from mlflow.exceptions import MlflowException

    assert model.name
    wanted = f"name = '{model.name}' AND tags.`{_KEY_TAG}` = '{model.key}'"
    if made := client.search_model_versions(wanted, max_results=1):
        return str(made[0].version)
    try:
        client.create_registered_model(model.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {_KEY_TAG: model.key, **({str(model.metric): str(model.value)} if model.metric else {})}
    created = client.create_model_version(model.name, logged.artifact_location, run_id, tags, model_id=logged.model_id)
    return str(created.version)


def _requirements() -> list[str]:
    pinned = []
    for package in ("mlflow", "transformers", "torch", "accelerate"):
        try:
            pinned.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return pinned
