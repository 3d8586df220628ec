"""Dates in JSON are the text that they were written as."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from raytrainer.config.data import Seq2SeqData
from raytrainer.tasks.reading import read

ROWS = [
    {"source": "1. Mai", "target": "2024-05-01", "at": "2024-05-01T10:00:00Z", "all": ["2024-05-01"], "n": 1},
    {
        "source": "2. Mai",
        "target": "2024-05-02",
        "all": ["2024-05-02", "2024-05-03"],
        "n": 2,
        "in": {"a": "2024-05-01"},
    },
]
LINES = "\n\n".join(json.dumps(row) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("a.jsonl.gz", gzip.compress(LINES.encode())),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
    ],
)
def test_a_date_is_the_text_that_it_was(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    found = list(read(Seq2SeqData(train=str(tmp_path / name)), 0, tmp_path)["train"])
    wanted: list[dict[str, Any]] = [{"at": None, "in": None, **row} for row in ROWS]
    assert found[1]["in"] == {"a": "2024-05-01"}
    assert [{**row, "in": wanted[i]["in"]} for i, row in enumerate(found)] == wanted
