"""Worker: what IOB tags mark: spans of words, each of one kind."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int, str]


def are_iob(names: Sequence[str]) -> bool:
    """Tell whether tags are of the form ``B-PER``, ``I-PER``, ``O`` (also with E, L, S, U, or without any B)."""
    return all(name == "O" or _split(name) is not None for name in names) and any(name != "O" for name in names)


def spans_of(tags: Sequence[str]) -> set[Span]:
    """Return the spans of a row of tags.

    A span begins at B, S and U, and wherever the kind is another one than before; so IOB1, IOB2, BIOES and BILOU all
    mean what they should.

    Args:
        tags: of one text's words.

    Returns:
        First word, the word after the last one, and kind of each.
    """
    found, begin, before = set(), 0, ("O", "")
    for at, tag in enumerate([*tags, "O"]):
        now = _split(tag) or ("O", "")
        if now[1] != before[1] or now[0] in "BSU" or before[0] in "ELSU":
            if before[1]:
                found.add((begin, at, before[1]))
            begin = at
        before = now
    return found


def continued(tag: str, names: Sequence[str]) -> str:
    """Return the tag of a word's further pieces: ``I-PER`` where its first one has ``B-PER``."""
    inside = f"I-{tag[2:]}"
    return inside if tag.startswith("B-") and inside in names else tag


def _split(tag: str) -> tuple[str, str] | None:
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash and kind and len(prefix) == 1 and prefix in "BIELSU" else None
