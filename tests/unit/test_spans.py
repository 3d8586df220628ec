"""Spans of tags, and the figures made of them, against cases counted by hand."""

from __future__ import annotations

import pytest

from raytrainer.tasks.metrics import spans
from raytrainer.tasks.spans import are_iob, continued, spans_of


@pytest.mark.parametrize(
    "tags, found",
    [
        ("O O", set()),
        ("B-A I-A O B-B", {(0, 2, "A"), (3, 4, "B")}),
        ("B-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        ("B-A I-B", {(0, 1, "A"), (1, 2, "B")}),
        ("I-A I-A O I-A", {(0, 2, "A"), (3, 4, "A")}),  # IOB1
        ("I-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        ("B-A E-A I-A S-A", {(0, 2, "A"), (2, 3, "A"), (3, 4, "A")}),  # BIOES
        ("U-A B-B I-B L-B L-B", {(0, 1, "A"), (1, 4, "B"), (4, 5, "B")}),  # BILOU
        ("O B-A-B", {(1, 2, "A-B")}),
    ],
)
def test_spans(tags: str, found: set[tuple[int, int, str]]) -> None:
    assert spans_of(tags.split()) == found


@pytest.mark.parametrize(
    "names, are",
    [("O B-A I-A", True), ("I-A O", True), ("DAY O", False), ("O", False), ("O X-A", False), ("B- O", False)],
)
def test_tags_that_are_iob(names: str, are: bool) -> None:
    assert are_iob(names.split()) is are


def test_further_pieces_of_a_word_go_on_with_it() -> None:
    names = ["O", "B-A", "I-A", "B-B"]
    assert [continued(name, names) for name in names] == ["O", "I-A", "I-A", "B-B"]


def test_figures() -> None:
    rows = [
        (["B-A", "I-A", "O", "B-B"], ["B-A", "I-A", "O", "B-A"]),  # one of two right
        (["O", "O", "B-A"], ["O", "B-A", "I-A"]),  # neither
    ]
    # 3 given, 3 wanted, 1 right; 4 of 7 tags.
    assert spans(rows) == pytest.approx({"accuracy": 4 / 7, "f1": 1 / 3, "precision": 1 / 3, "recall": 1 / 3})
    assert spans([(["O"], ["O"])]) == {"accuracy": 1.0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
