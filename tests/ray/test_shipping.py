"""What the constructor is given reaches workers that cannot see the driver's files, once a node, unchanged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from datasets import ClassLabel, Dataset, Features, Value, load_from_disk
from ray.train import ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.errors import ArgumentsError
from raytrainer.shipping import Parcel, Shipper, unpack
from tests.ray.recipes import COMMON, classify_words, vowels

pytestmark = pytest.mark.ray
ROWS = 2000


def doubled(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"x": [2 * value for value in batch["x"]]}


def on_disk(folder: Path) -> Dataset:
    features = Features({"x": Value("int32"), "kind": ClassLabel(names=["odd", "even"]), "text": Value("string")})
    rows = {"x": range(ROWS), "kind": [i % 2 for i in range(ROWS)], "text": [f"row {i} ä" for i in range(ROWS)]}
    Dataset.from_dict({name: list(values) for name, values in rows.items()}, features=features).save_to_disk(folder)
    return load_from_disk(str(folder))


VARIANTS = {
    "memory-mapped": lambda data: data,
    "shuffled": lambda data: data.shuffle(seed=1),
    "a few rows": lambda data: data.select([3, 1, 4, 1, 5]),
    "a slice": lambda data: data.select(range(10, 20)),
    "torch format": lambda data: data.with_format("torch", columns=["x"]),
    "transform": lambda data: data.with_transform(doubled),
    "fewer columns": lambda data: data.remove_columns("text").rename_column("x", "y"),
    "in memory": lambda data: Dataset.from_dict({"x": [1, 2]}),
    "iterable": lambda data: data.to_iterable_dataset(num_shards=4).shuffle(seed=3, buffer_size=10),
}


@ray.remote(num_cpus=0.5)
def look(parcel: Parcel) -> tuple[list[Any], Any]:
    data = unpack(parcel)
    return [str(row) for row in data], data.features


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_dataset_arrives_whole_where_its_files_are_not(variant: str, tmp_path: Path, ray_cluster: None) -> None:
    data = VARIANTS[variant](on_disk(tmp_path / "data"))
    expected = [str(row) for row in data]
    # The driver's memory map stays; whoever opens the path now finds nothing.
    parcel = Shipper().pack(data)
    shutil.rmtree(tmp_path / "data")
    rows, features = ray.get(look.remote(parcel))
    assert rows == expected
    assert features == data.features


def test_a_few_rows_of_a_large_table_do_not_bring_the_table(tmp_path: Path, ray_cluster: None) -> None:
    data = on_disk(tmp_path / "data")
    few, whole = Shipper().pack(data.select([3, 1, 4])), Shipper().pack(data)
    assert sum(len(table) for table in ray.get(list(few.tables))) < 2000
    assert sum(len(table) for table in ray.get(list(whole.tables))) > 20_000


def test_a_table_is_put_once_for_all_jobs_of_a_trainer(tmp_path: Path, ray_cluster: None) -> None:
    data, shipper = on_disk(tmp_path / "data"), Shipper()
    few = data.select([3, 1, 4])
    first, second = shipper.pack({"train": data, "few": few}), shipper.pack(("again", few, data))
    assert set(first.tables) == set(second.tables)
    assert len(set(first.tables)) == 2


@ray.remote(num_cpus=0.5)
class Reader:
    """A process that keeps what it unpacked."""

    def mapping(self, parcel: Parcel) -> tuple[str, str]:
        """Return inode and name of the file that the table's bytes are mapped from in this process."""
        self.data = unpack(parcel)
        address = self.data.data.table.column("x").chunk(0).buffers()[1].address
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return line.split()[4], line.split()[5]
        raise AssertionError("mapped nowhere")


def test_workers_of_a_node_map_one_copy(tmp_path: Path, ray_cluster: None) -> None:
    parcel = Shipper().pack(on_disk(tmp_path / "data"))
    readers = [Reader.remote(), Reader.remote()]  # type: ignore[attr-defined]  # ray.remote's classes carry no types
    first, second = ray.get([reader.mapping.remote(parcel) for reader in readers])
    assert first == second
    assert "plasma" in first[1]


@ray.remote(num_cpus=0.5)
def train_one_step(parcel: Parcel) -> tuple[bool, bool, str, np.ndarray[Any, Any]]:
    model, optimizer, half = unpack(parcel)
    before = model[0].weight.clone()
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    tied = model[0].weight is model[2].weight
    return tied, not torch.equal(before, model[0].weight), str(half.dtype), half.float().numpy()


def test_tensors_stay_tied_writable_and_of_their_type(ray_cluster: None) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    half = torch.arange(6, dtype=torch.bfloat16)[::2]
    parcel = Shipper().pack((model, optimizer, half))
    # Twice: the first must not have written into what the second reads.
    for _ in range(2):
        tied, moved, dtype, values = ray.get(train_one_step.remote(parcel))
        assert tied and moved
        assert dtype == "torch.bfloat16"
        assert values.tolist() == [0.0, 2.0, 4.0]


def test_training_on_a_dataset_whose_files_are_gone(tmp_path: Path, ray_cluster: None) -> None:
    vowels(32, 3).save_to_disk(str(tmp_path / "data"))
    data = load_from_disk(str(tmp_path / "data"))
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path / "out", **{**COMMON, "max_steps": 2}),
        scaling_config=ScalingConfig(num_workers=2),
        **{**classify_words(), "train_dataset": data},
    )
    shutil.rmtree(tmp_path / "data")
    assert trainer.train().global_step == 2


def test_the_content_of_deepspeeds_file_is_what_travels(tmp_path: Path, ray_cluster: None) -> None:
    file, config = tmp_path / "zero.json", {"zero_optimization": {"stage": 2}}
    file.write_text(json.dumps(config))
    arguments = RayTrainingArguments(tmp_path, report_to="none", deepspeed=str(file))
    held: Any = RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=2), **classify_words())
    file.unlink()
    with pytest.raises(ArgumentsError, match="no such file"):
        held._job("train", (), {})
    file.write_text(json.dumps(config))
    assert held._job("train", (), {}).arguments[1]["deepspeed"] == config
    assert held.args.deepspeed == str(file)
