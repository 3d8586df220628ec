"""README and docs as the tests read them: blocks of code with their places, commands, words in code style."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
_NAME = re.compile(r"# (\S+\.(?:ya?ml|py))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: the file, from the repository's folder.
        line: of its first line, from 1.
        language: as the page says it.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def name(self) -> str | None:
        """The file that it is, where its first line says so."""
        found = _NAME.match(self.text)
        return found[1] if found else None

    @property
    def python(self) -> str:
        """What is to be run: of a difference the new side."""
        if self.language == "python":
            return self.text
        lines = [line for line in self.text.splitlines() if not line.startswith("-")]
        return "\n".join(line[1:] for line in lines) + "\n"


def blocks(page: str) -> list[Block]:
    """Return a page's blocks in order."""
    tokens = MarkdownIt("commonmark").parse((ROOT / page).read_text())
    fences = [token for token in tokens if token.type == "fence"]
    return [Block(page, token.map[0] + 2, token.info.strip(), token.content) for token in fences if token.map]


def in_code_style(page: str) -> set[str]:
    """Return the words that a page has in code style, without its blocks."""
    tokens = MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())
    children = [child for token in tokens for child in token.children or []]
    return {child.content for child in children if child.type == "code_inline"}


def links(page: str) -> Iterator[str]:
    """Yield what a page links to."""
    tokens = MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())
    for child in (child for token in tokens for child in token.children or []):
        if child.type == "link_open":
            yield str(child.attrs["href"])


def commands(text: str) -> list[list[str]]:
    """Return the commands of a text for bash, in order, without variables that are set for one of them."""
    found: list[list[str]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()")
        lexer.whitespace_split = True
        found.append([])
        for word in lexer:
            if set(word) <= {*"|&;()"}:
                found.append([])
            elif found[-1] or not re.fullmatch(r"\w+=.*", word):
                found[-1].append(word)
    return [command for command in found if command]
