"""What is written to one run of an MLflow store, a request each; the fluent API's global state is left alone."""

from __future__ import annotations

import json
import posixpath
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raytrainer.checkpoints import Store, parted
from raytrainer.secrets import masked
from raytrainer.tracking_entry import Data, Model, Point, State
from raytrainer.tracking_reach import variables
from raytrainer.tracking_registry import send_model

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ERROR_TAG = "raytrainer.error"
# Characters of where a dataset came from: MLflow takes 65,535 in JSON, where one is written with up to twelve.
_SOURCE = 5000
_SILENCE = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"


class Gone(Exception):
    """A file that was to be written is not there any more."""


class OpenRun:
    """A run that the store has; each method raises what MLflow raises.

    Args:
        client: of the store.
        run_id: the store's name for the run.
        experiment_id: the same for its experiment.
    """

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self._client, self._id, self._experiment_id = client, run_id, experiment_id

    def points(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        # A point that is there already is not written twice.
        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        self._client.log_batch(self._id, metrics=metrics)

    def params(self, params: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(self._id, params=[Param(name, value) for name, value in params])

    def tags(self, tags: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import RunTag

        cut = [RunTag(name, tag_value(value)) for name, value in dict(tags).items()]
        self._client.log_batch(self._id, tags=cut)

    def data(self, data: Sequence[Data]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
        from mlflow.utils.validation import MAX_DATASET_NAME_SIZE

        inputs = []
        for each in data:
            profile = json.dumps({"num_rows": each.rows}) if each.rows is not None else None
            source = json.dumps({"uri": masked(each.source)[:_SOURCE]})
            dataset = Dataset(each.name[:MAX_DATASET_NAME_SIZE], each.digest, "local", source, profile=profile)
            inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, each.context)]))
        self._client.log_inputs(self._id, inputs)

    def text(self, texts: Sequence[tuple[str, str]]) -> None:
        ((name, text),) = texts
        self._client.log_text(self._id, text, name)

    def file(self, files: Sequence[tuple[str, str]]) -> None:
        """Copy a file or a folder of the storage to the run's artifacts."""
        ((name, place),) = files
        above, last = parted(place)
        folder, _ = posixpath.split(name)
        with tempfile.TemporaryDirectory() as here:
            local = Path(here) / posixpath.basename(name)
            store = Store(above)
            try:
                if last in store.files(""):
                    local.write_bytes(store.read(last))
                else:
                    store.fetch_folder(last, local)
            except FileNotFoundError:
                raise Gone(masked(place)) from None
            if local.is_dir():
                self._client.log_artifacts(self._id, str(local), name)
            else:
                self._client.log_artifact(self._id, str(local), folder or None)

    def model(self, models: Sequence[Model]) -> None:
        (model,) = models
        try:
            send_model(self._client, self._id, self._experiment_id, model)
        except FileNotFoundError:
            raise Gone(masked(model.place)) from None

    def end(self, state: State, had_error: bool) -> None:
        """Write how it ended; an error of an earlier part of it is taken off where this one has none."""
        if state.error:
            self._client.set_tag(self._id, ERROR_TAG, tag_value(masked(state.error)))
        elif had_error:
            forget_error(self._client, self._id)
        # MLflow prints the run's address when a run ends, with its password; it has no other switch for that.
        with variables({_SILENCE: "true"}):
            self._client.set_terminated(self._id, state.status, state.time)


def tag_value(text: str) -> str:
    """Return as much of a tag's value as MLflow takes: the end, which is where an error says what it is."""
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    return text[-MAX_TAG_VAL_LENGTH:]


def forget_error(client: MlflowClient, run_id: str) -> None:
    """Take the tag off a run that says how an earlier part of it failed."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_tag(run_id, ERROR_TAG)
    except MlflowException as error:
        # A try before this one has, and its answer was lost.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
