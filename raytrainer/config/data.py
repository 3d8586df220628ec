"""What a task's data is, and which columns mean what."""

from __future__ import annotations

import glob
import os
from typing import Annotated, Any, Literal

from pydantic import Field

from raytrainer.config.section import Count, Section, Word

Share = Annotated[float, Field(gt=0, lt=1)]
Files = Word | Annotated[list[Word], Field(min_length=1)]


def found(files: str, folder: str = os.curdir) -> list[str]:
    """Return what a path or a pattern means on this machine, in order; nothing where nothing is there.

    Args:
        files: what is said.
        folder: what it counts from.
    """
    path = os.path.expanduser(files)
    there = os.path.exists(os.path.join(folder, path))
    paths = [path] if there else sorted(glob.glob(path, root_dir=folder, recursive=True))
    return [os.path.abspath(os.path.join(folder, each)) for each in paths]


class MaxSamples(Section):
    """How many examples of each split at most."""

    train: Count | None = None
    eval: Count | None = None
    test: Count | None = None


class Data(Section):
    """Where the examples are. Files are CSV, JSON or JSON lines, Parquet, Arrow, text, or a folder of images."""

    train: Files
    """A path, a pattern (data/*.parquet), a URI, a folder of datasets.save_to_disk, or several; a split with hub."""
    eval: Files | Share | Count | None = None
    """The same; or the share (0.1) or number (500) of training examples to hold out."""
    test: Files | None = None
    """What the trained model is tested on at the end: metrics test_..., and predictions.jsonl in the run's folder."""
    format: Literal["csv", "json", "parquet", "arrow", "text", "imagefolder"] | None = None
    """Default: what the files' names end in."""
    hub: Word | None = None
    """A dataset on the hub; train, eval and test then name its splits."""
    subset: str | None = None
    """A configuration of that dataset."""
    revision: str | None = None
    """A version of that dataset."""
    filter: dict[str, Any] = {}
    """Examples to keep, by column: a value, a list of values, or {min: , max: , not: }."""
    max_samples: Count | MaxSamples | None = None
    """How many examples at most, of each split."""
    max_length: Count | None = None
    """Tokens of an example at most. Default: what the model takes."""
    cache: str | None = None
    """Where prepared data is kept for the next run. Default: the folder cache under run.storage_path."""


class TextClassificationData(Data):
    """One or two texts, and what they are."""

    text: Word = "text"
    """Column of the text."""
    text_pair: Word | None = None
    """Column of a second text."""
    label: Word | Annotated[list[Word], Field(min_length=1)] = "label"
    """Column of the label: a name or number; a list of names for several; a float to be estimated. Or the columns of
    several labels, each 0 or 1."""
    labels: Annotated[list[Word], Field(min_length=1)] | None = None
    """The labels' names in order. Default: those that the training data has, sorted."""
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = None
    """What transformers calls it. Default: what the label column says."""


class TokenClassificationData(Data):
    """Words, and a tag for each."""

    tokens: Word = "tokens"
    """Column of the words, a list."""
    tags: Word = "tags"
    """Column of their tags, a list of the same length: names or numbers."""
    labels: Annotated[list[Word], Field(min_length=1)] | None = None
    """The tags' names in order. Default: those that the training data has, sorted."""
    label_all_tokens: bool = False
    """Whether every piece of a word carries its tag, not only the first one."""


class CausalLMData(Data):
    """Text to be gone on with."""

    text: Word = "text"
    """Column of the text."""
    packing: bool = True
    """Fill blocks of max_length with one text after another; else one text an example."""


class MaskedLMData(Data):
    """Text with holes to be filled."""

    text: Word = "text"
    """Column of the text."""
    packing: bool = True
    """Fill blocks of max_length with one text after another; else one text an example."""
    mlm_probability: Share = 0.15
    """Share of the tokens that are masked."""


class Seq2SeqData(Data):
    """A text, and the text that it shall become."""

    source: Word = "source"
    """Column of the text."""
    target: Word = "target"
    """Column of what it shall become."""
    prefix: str = ""
    """Put before every source, for example 'summarize: '."""
    max_target_length: Count | None = None
    """Tokens of a target at most. Default: max_length."""


class ImageClassificationData(Data):
    """Pictures, and what they show."""

    image: Word = "image"
    """Column of the picture: a file, bytes, or an array of height x width (x channels)."""
    label: Word = "label"
    """Column of the label; for a folder of images the folder's name."""
    labels: Annotated[list[Word], Field(min_length=1)] | None = None
    """The labels' names in order. Default: those that the training data has, sorted."""
