"""What is kept and which model is loaded at the end, in one process: a bare Trainer whose ``train`` is recoverable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from pyarrow import fs
from ray.train import CheckpointConfig
from ray.train.v2._internal.execution import train_fn_utils
from ray.train.v2.api.config import RunConfig
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.errors import ResourcesError
from raytrainer.events import Event, Note, Saved
from raytrainer.keeping import keep
from raytrainer.outbox import Outbox
from raytrainer.recovery import recoverable_train
from raytrainer.resuming import Recovery, Resuming
from raytrainer.sweep.here import _HereWire
from tests.unit.test_continuation import bare
from tests.unit.test_properties_checkpoints import write

pytestmark = pytest.mark.trains

# The first evaluation is the best one: what is learned on these few words does not hold for others.
FIRST_IS_BEST = {
    "max_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "learning_rate": 0.5,
    "metric_for_best_model": "loss",
}


@pytest.fixture(autouse=True)
def _as_a_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answer what a worker asks of Ray."""
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    monkeypatch.setattr(train_fn_utils, "_train_fn_utils", train_fn_utils.LocalTrainFnUtils("run"))
    yield


class Told(list[str]):
    """The warnings of a run, as a sink."""

    def handle(self, event: Event) -> None:
        if isinstance(event, Note) and event.warning:
            self.append(event.text)

    def close(self, error: BaseException | None) -> None:
        pass


def remote(folder: Path) -> Store:
    # Through a file system that is not pyarrow's own for local files, it is taken for a remote one.
    return Store(str(folder), fs.SubTreeFileSystem("/", fs.LocalFileSystem()))


class Wire(_HereWire):
    """A wire that knows what an attempt before has saved."""

    def __init__(self, told: Told, before: dict[str, Saved]) -> None:
        super().__init__([told], None)
        self.before = before

    def saved(self) -> dict[str, Saved]:
        return self.before


def train(
    folder: Path,
    store: Store,
    resume: str | bool | None = None,
    run: str = "run",
    saved: Saved | None = None,
    config: RunConfig | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **arguments: Any,
) -> tuple[Trainer, Told]:
    """Train as a worker of a run does that is alone in its group."""
    trainer, told = bare(folder, *callbacks, **{**FIRST_IS_BEST, **arguments}), Told()
    wire = Wire(told, {} if saved is None else {store.path: saved})
    recovery = Recovery(store, run, keep(trainer.args, config))
    outbox, kwargs = Outbox(wire, 0), {"resume_from_checkpoint": resume}
    recoverable_train(trainer.train, trainer, recovery, wire, outbox, lambda item: [item], (), kwargs)
    return trainer, told


@pytest.mark.parametrize("loads_best", [False, True])
@pytest.mark.parametrize("place", [lambda folder: Store(str(folder / "out")), lambda folder: remote(folder / "there")])
def test_with_a_limit_of_one_the_newest_and_the_best_stay(
    place: Callable[[Path], Store], loads_best: bool, tmp_path: Path
) -> None:
    store = place(tmp_path)
    trainer, _ = train(tmp_path, store, save_total_limit=1, load_best_model_at_end=loads_best)
    best = trainer.state.best_global_step
    assert best is not None and best < 4, "the best one is not the newest"
    assert [manifest.step for manifest in store.manifests()] == store.steps() == [best, 4]
    assert trainer.state.best_model_checkpoint == store.address(best)


def test_what_another_run_left_behind_is_neither_kept_nor_the_best(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    train(tmp_path, store, run="of better models", learning_rate=1e-6)
    train(tmp_path, store, run="begun anew", max_steps=2)
    trainer, told = train(
        tmp_path, store, True, run="gone on", max_steps=3, save_total_limit=2, load_best_model_at_end=True
    )
    assert trainer.state.best_global_step == 1
    assert trainer.state.best_model_checkpoint == store.address(1)
    assert store.steps() == [1, 3, 4], "the last one is the first run's"
    assert not [text for text in told if "best checkpoint" in text]


def test_where_the_best_is_in_another_folder_the_best_of_this_one_is_loaded(tmp_path: Path) -> None:
    before = Store(str(tmp_path / "before/out"))
    train(tmp_path / "before", before, max_steps=2)
    store = Store(str(tmp_path / "after/out"))
    trainer, told = train(tmp_path / "after", store, before.address(2), run="other", load_best_model_at_end=True)
    assert trainer.state.best_global_step == 1
    best = min(store.manifests(), key=lambda manifest: manifest.metrics["eval_loss"])
    assert trainer.state.best_model_checkpoint == store.address(best.step)
    at_first, at_the_end = (text for text in told if "the best checkpoint" in text)
    assert "of step 1, is not in" in at_first
    assert f"of step 1, is not in the storage; of those there {best.step} is" in at_the_end


def test_machines_that_share_an_output_dir_fetch_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "there", 3)
    store = remote(tmp_path / "there")
    (manifest,) = store.manifests()
    outbox = Outbox(_HereWire([], None), 0)
    nodes, fetched = [], []
    for name in ("node", "other node"):
        monkeypatch.setattr(ray, "get_runtime_context", lambda name=name: SimpleNamespace(get_node_id=lambda: name))
        nodes.append(Resuming(Recovery(store, "run"), str(tmp_path), outbox, lambda item: [item]))
        fetched.append(nodes[-1].fetch(store, manifest))
    nodes[0].forget()
    assert fetched[1] is not None and (fetched[1] / "model.safetensors").exists()
    nodes[1].forget()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_group_that_comes_back_where_its_checkpoints_are_not_does_not_begin_anew(tmp_path: Path) -> None:
    here = Store(str(tmp_path / "out"))
    train(tmp_path, here, max_steps=2)

    def saved(step: int, node: str = "other node") -> Saved:
        return Saved(step, here.address(step), 1, 1.0, 0.0, node)

    with pytest.raises(ResourcesError, match="or were, and not all of them see"):
        train(tmp_path, here, saved=saved(3))
    _, told = train(tmp_path, here, saved=saved(3), max_steps=3, save_strategy="no")
    assert any("is not shared by all machines, so nothing is saved" in text for text in told)
    # Who has deleted it here knows that it is gone.
    trainer, _ = train(tmp_path, here, saved=saved(3, "node"), max_steps=3)
    assert trainer.state.global_step == 3
    trainer, _ = train(tmp_path, here, saved=saved(2), max_steps=4)
    assert trainer.state.global_step == 4


def test_the_best_stays_whatever_ray_train_keeps_the_best_by(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    config = RunConfig(checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="eval_accuracy"))
    trainer, told = train(tmp_path, store, config=config, load_best_model_at_end=True)
    assert trainer.state.best_global_step == 1, "the best by loss, which is not the best by accuracy"
    assert trainer.state.best_model_checkpoint == store.address(1)
    assert store.steps() == [1, 3, 4]
    assert told == []


class RunsOutOfMemory(TrainerCallback):
    """Once, before the step after some that are done; writes down which were."""

    def __init__(self, done: int) -> None:
        self.done, self.steps, self.full = done, list[int](), False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.steps.append(state.global_step)
        if state.global_step == self.done and not self.full:
            self.full = True
            raise RuntimeError("CUDA out of memory.")


def test_a_resumed_run_that_looks_for_a_smaller_batch_begins_where_it_was_resumed(tmp_path: Path) -> None:
    store, full = remote(tmp_path / "there"), RunsOutOfMemory(3)
    train(tmp_path, store, max_steps=2)
    trainer, _ = train(tmp_path, store, True, "again", callbacks=[full], auto_find_batch_size=True)
    assert full.full and full.steps == [2, 3, 2, 3]
    assert trainer._train_batch_size == 3
    assert [manifest.step for manifest in store.manifests()] == [1, 2, 3, 4]
    assert [path.name for path in (tmp_path / "out").iterdir()] == []
