"""Worker: pictures in the data, whatever they are, and the tensors that a model takes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import ViTImageProcessorPil

from raytrainer.errors import ArgumentsError, Problem

_GREY = np.array([0.299, 0.587, 0.114])  # what PIL's conversion to grey weighs red, green and blue by


def as_array(value: Any) -> NDArray[Any] | None:
    """Return a picture that is an array, or a file of more than 8 bits a channel; None for any other file.

    Args:
        value: bytes, a path, what datasets makes of either (``{"bytes": , "path": }``), or numbers in rows.

    Raises:
        OSError: no such file, or none of a picture.
        ValueError: numbers that are no picture.
    """
    if isinstance(value, dict | bytes | str):
        with _opened(value) as image:
            return np.array(image) if image.mode[0] in "IF" else None
    array = np.asarray(value)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(f"its shape is {array.shape}")
    return array


def picture(value: Any, black_and_white: tuple[float, float] | None) -> Any:
    """Return a picture as it is kept: a file as it is, an array with 8 bits a channel.

    Args:
        value: as :func:`as_array` takes it.
        black_and_white: which numbers are black and white; None for the picture's own least and largest.

    Raises:
        OSError, SyntaxError: the file is broken.
        ValueError: numbers that are no picture.
    """
    array = as_array(value)
    if array is None:
        with _opened(value) as image:
            image.verify()
        return value
    low, high = black_and_white or (float(array.min()), float(array.max()))
    scaled = (array.astype(np.float64) - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))


def statistics(images: Iterable[Image.Image]) -> dict[str, Any]:
    """Measure pictures.

    Returns:
        ``mean`` and ``std`` of red, green and blue, from 0 to 1, and ``size`` of the first one, [height, width].
    """
    count, total, squares, size = 0, np.zeros(3), np.zeros(3), None
    for image in images:
        size = size or [image.height, image.width]
        values = np.asarray(image.convert("RGB"), dtype=np.float64).reshape(-1, 3) / 255
        count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    # Pictures of one colour only would be divided by nothing.
    return {"mean": mean.tolist(), "std": np.where(std > 1e-3, std, 1.0).tolist(), "size": size}


def new_processor(config: Any, facts: dict[str, Any]) -> ViTImageProcessorPil:
    """Make the image processor of a new model: resize, and normalise by mean and deviation of the training data.

    Args:
        config: the model's.
        facts: as :func:`statistics` gave them.
    """
    size = getattr(config, "image_size", None) or facts["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mean, std = np.array(facts["mean"]), np.array(facts["std"])
    if channels(config) == 1:
        mean, std = (mean * _GREY).sum(keepdims=True), (std * _GREY).sum(keepdims=True)
    return ViTImageProcessorPil(
        size={"height": height, "width": width}, image_mean=mean.tolist(), image_std=std.tolist()
    )


def channels(config: Any) -> int:
    """Return how many channels a model's pictures have.

    Raises:
        UserError: neither 1 (grey) nor 3 (red, green, blue).
    """
    number = getattr(config, "num_channels", 3)
    if number not in (1, 3):
        reason = "pictures here have one channel or three"
        raise ArgumentsError(Problem("model.from_config.num_channels", number, reason, "1 (grey) or 3"))
    return int(number)


@dataclass(frozen=True)
class PictureCollator:
    """Decodes, resizes and normalises pictures when a batch needs them, so that they are kept as small as they came.

    Args:
        processor: what resizes and normalises.
        mode: PIL's name of what the model takes: ``RGB`` or ``L``.
    """

    processor: Any
    mode: str

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        images = [row["pixel_values"].convert(self.mode) for row in rows]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": torch.tensor([row["labels"] for row in rows])}


def _opened(value: Any) -> Image.Image:
    known = value if isinstance(value, dict) else {"bytes" if isinstance(value, bytes) else "path": value}
    content = known.get("bytes")
    return Image.open(known["path"] if content is None else io.BytesIO(content))
