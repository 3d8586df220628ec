"""A config file as text: regular, of a sane size, UTF-8."""

from __future__ import annotations

import os
import re
import stat

from raytrainer.config.tree import Node, Place
from raytrainer.config.yaml_errors import wrong
from raytrainer.config.yaml_values import parse
from raytrainer.errors import NOTHING, ConfigError

MOST_BYTES = 1_000_000


def read_file(path: str) -> Node:
    """Read a config file.

    Raises:
        ConfigError: it cannot be read, is too large, is not UTF-8, or is not YAML with a mapping in it.
    """
    root = parse(_text(path), path)
    if root.value is None:
        raise wrong(path, NOTHING, "no settings are in it", "lines of key: value, for example name: my-run")
    if not isinstance(root.value, dict):
        raise wrong(path, root.plain(), "it is no mapping", "lines of key: value, for example name: my-run")
    return root


def _text(path: str) -> str:
    try:
        # The size first: what is too large, or never ends, is not read at all.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise wrong("CONFIG", path, f"it is {kind}", "the path of a YAML file")
        if status.st_size > MOST_BYTES:
            reason = f"it has {status.st_size:,} bytes, and a config has {MOST_BYTES:,} at most"
            raise wrong("CONFIG", path, reason, "the path of a YAML file")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise wrong("CONFIG", path, f"it cannot be read: {reason}", "the path of a YAML file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        where = str(Place(path, line, column))
        raise wrong(where, data[error.start : error.start + 1], "it is not UTF-8", "the file saved as UTF-8") from None
    odd = re.search(r"[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        where = str(Place(path, line, odd.start() - text.rfind("\n", 0, odd.start())))
        raise wrong(where, odd.group(), "YAML has no place for this character", "the file without it")
    return text
