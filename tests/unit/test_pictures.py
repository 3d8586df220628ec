"""Pictures of every kind become what the model takes, and the folder of a model is enough to do the same."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features, Value
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from raytrainer.errors import UserError
from raytrainer.tasks.pictures import picture
from tests.unit.test_tasks import Case

pytestmark = pytest.mark.trains

# Two pictures of 4 x 4: dark, and light; as 8 bits.
PIXELS = [np.arange(16, dtype=np.uint8).reshape(4, 4), np.arange(240, 256, dtype=np.uint8).reshape(4, 4)]
LABELS = ["dark", "light"]


def file(folder: Path, number: int, mode: str = "L") -> Path:
    path = folder / f"{number}.png"
    Image.fromarray(PIXELS[number]).convert(mode).save(path)
    return path


def content(folder: Path, number: int) -> bytes:
    return file(folder, number).read_bytes()


KINDS: dict[str, Callable[[Path, int], Any]] = {
    "path": lambda folder, number: str(file(folder, number)),
    "path beside the data": lambda folder, number: file(folder, number).name,
    "coloured": lambda folder, number: str(file(folder, number, "RGB")),
    "with alpha": lambda folder, number: str(file(folder, number, "RGBA")),
    "bytes": content,
    "bytes and path": lambda folder, number: {"bytes": content(folder, number), "path": None},
    "rows": lambda folder, number: PIXELS[number].tolist(),
    "rows with channels": lambda folder, number: np.stack([PIXELS[number]] * 3, -1).tolist(),
    "rows with one channel": lambda folder, number: PIXELS[number][..., None].tolist(),
    "small numbers": lambda folder, number: (PIXELS[number] / 255).tolist(),
}


def batch(case: Case, train: str, **data: Any) -> Any:
    trainer = case.trainer(train=train, **{"eval": None, "test": None, **data})
    rows = [trainer.train_dataset[i] for i in range(2)]
    return trainer, trainer.data_collator(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_same_picture(kind: str, tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    rows = [{"image": KINDS[kind](tmp_path, i), "label": LABELS[i]} for i in range(2)]
    Dataset.from_list(rows).to_parquet(tmp_path / "data.parquet")
    _, found = batch(case, str(tmp_path / "data.parquet"))
    both = np.stack(PIXELS) / 255
    wanted = (both - both.mean()) / both.std()
    assert found["pixel_values"].shape == (2, 1, 4, 4)
    assert torch.allclose(found["pixel_values"][:, 0], torch.tensor(wanted, dtype=torch.float32), atol=1e-2)
    assert found["labels"].tolist() == [0, 1]


def test_the_folder_of_a_model_prepares_pictures_as_the_training_did(tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    factory = case.factory()
    trainer: Any = factory(case.arguments(max_steps=2))
    trainer.train()
    model = factory.finish(trainer).model
    rows = [trainer.eval_dataset[i] for i in range(3)]
    wanted = trainer.data_collator(rows)["pixel_values"]
    processor = AutoImageProcessor.from_pretrained(model)
    pixels = processor(images=[row["pixel_values"] for row in rows], return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, wanted)
    AutoModelForImageClassification.from_pretrained(model)(pixel_values=pixels)


def test_a_model_of_three_channels_and_another_size(tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    from_config = {**case.row.model["from_config"], "num_channels": 3, "image_size": 8}
    trainer: Any = case.factory(model={"from_config": from_config})(case.arguments())
    found = trainer.data_collator([trainer.train_dataset[0]])["pixel_values"]
    assert found.shape == (1, 3, 8, 8)
    assert torch.equal(found[0, 0], found[0, 2])
    with pytest.raises(UserError, match=r"model.from_config.num_channels = 2: "):
        case.factory(model={"from_config": {**from_config, "num_channels": 2}})(case.arguments())


def test_an_adapter_trains_the_head_too(tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    factory = case.factory(model={"peft": {"r": 2, "target_modules": ["q_proj", "v_proj"]}})
    trainer: Any = factory(case.arguments(max_steps=2))
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, weight in trainer.model.state_dict().items() if not torch.equal(before[name], weight)}
    assert any("classifier" in name for name in changed)
    assert all("lora_" in name or "classifier.modules_to_save" in name for name in changed)
    AutoModelForImageClassification.from_pretrained(factory.finish(trainer).model)


def test_a_pretrained_models_own_processor_is_used(tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    factory = case.factory()
    model = factory.finish(factory(case.arguments())).model
    settings = json.loads((Path(model) / "preprocessor_config.json").read_text())
    (Path(model) / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.25]}))
    other: Any = case.factory(model={"name": model, "from_config": None})(case.arguments())
    assert list(other.processing_class.image_mean) == [0.25]


def test_a_folder_of_images(tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    for split, kinds in (("train", LABELS), ("eval", ["light"])):
        for kind in kinds:
            (tmp_path / split / kind).mkdir(parents=True)
            Image.fromarray(PIXELS[LABELS.index(kind)]).save(tmp_path / split / kind / "1.png")
    trainer, found = batch(case, str(tmp_path / "train"), eval=str(tmp_path / "eval"))
    assert found["labels"].tolist() == [0, 1]
    assert trainer.eval_dataset[0]["labels"] == 1  # the folder has no dark ones
    assert trainer.model.config.id2label == {0: "dark", 1: "light"}


def test_arrays_of_fixed_shape(tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    features = Features({"image": Array2D((4, 4), "float32"), "label": Value("string")})
    rows = {"image": [pixels / 16 for pixels in PIXELS], "label": LABELS}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    _, found = batch(case, str(tmp_path / "saved"))
    assert found["pixel_values"][0].max() < 0 < found["pixel_values"][1].min()


def test_deep_pictures_keep_their_differences() -> None:
    deep = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "png")
    assert np.array(picture(stream.getvalue(), (0, 4000))).tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize("image", ["none.png", "broken.png", [1, 2, 3], [[[1, 2]]]])
def test_what_is_no_picture_is_named(image: Any, tmp_path: Path) -> None:
    case = Case("image-classification", tmp_path)
    (tmp_path / "broken.png").write_bytes(content(tmp_path, 0)[:50])
    good = image if isinstance(image, str) else PIXELS[0].tolist()
    file(tmp_path, 1)
    rows = [{"image": "1.png" if isinstance(image, str) else good, "label": "a"}, {"image": image, "label": "b"}]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"data.image = 'image': (example 1 of data.train is no picture|)"):
        case.trainer(train=str(path), eval=None, test=None)
