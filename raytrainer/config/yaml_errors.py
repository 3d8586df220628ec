"""What is wrong with YAML, in plain words."""

from __future__ import annotations

import yaml

from raytrainer.config.tree import Place
from raytrainer.errors import ConfigError, Problem, Seen

# What PyYAML says, with libyaml and without: sign, reason, fix.
_PLAIN = [
    ("expected a single document", "a second document begins", "one document a file: no --- between settings"),
    ("undefined alias", "no anchor of this name comes before it", "&name before the value that *name repeats"),
    ("cannot start any token", "this character cannot begin a value", "the value in quotes"),
    ("sequence entries are not allowed", "a list cannot begin beside its key", "its items on lines below, or in [ ]"),
    (
        "mapping values are not allowed",
        "there is a second colon, or the indentation is wrong",
        "one key a line; quotes around a value with ': ' in it",
    ),
    ("expected ':'", "a key has no colon after it", "key: value"),
    ("',' or", "the bracket is not closed, or a comma is missing", "commas between the items, and the closing bracket"),
    ("quoted scalar", "what begins in quotes cannot be read", 'the closing quotation mark; in "..." \\\\ for \\'),
    ("block mapping", "it does not line up with the keys above it", "the same indentation for all keys of a mapping"),
    ("block collection", "it does not line up with the items above it", "the same indentation for all items"),
    ("node content", "a value is missing, or a bracket is one too many", "a value"),
    ("max depth", "it is nested too deeply", "fewer levels"),
]
# Of these the beginning is where the user looks; the parser noticed at some later line, or at the end of the file.
_AT_THE_BEGINNING = ("expected ':'", "',' or", "quoted scalar")


def wrong(setting: str, value: object, reason: str, fix: str) -> ConfigError:
    """Make the error of one problem; a long text is cut."""
    if isinstance(value, str) and len(value) > 100:
        value = value[:97] + "..."
    return ConfigError(Problem(setting, value, reason, fix))


def syntax(source: str, text: str, error: yaml.MarkedYAMLError, positions: bool) -> ConfigError:
    """Make the error of text that is not YAML.

    Args:
        source: what the text is called.
        text: all of it.
        error: the parser's.
        positions: whether lines and columns of the text mean something to the user.
    """
    problem = f"{error.context or ''} {error.problem or ''}"
    known = next((row for row in _PLAIN if row[0] in problem), None)
    begins = known is not None and known[0] in _AT_THE_BEGINNING
    mark = (error.context_mark if begins else None) or error.problem_mark or error.context_mark
    if mark is None:
        return wrong(source, Seen("..."), f"it is not YAML: {problem.strip()}", "text in YAML")
    place = Place(source, mark.line + 1, mark.column + 1) if positions else Place(source)
    line = "".join(text.splitlines()[mark.line : mark.line + 1])
    value = line.strip() or Seen("the end of the file")
    if "\t" in line[: len(line) - len(line.lstrip())] or line[mark.column : mark.column + 1] == "\t":
        return wrong(str(place), value, "a tab cannot indent or separate in YAML", "spaces in place of the tab")
    if "flow" in problem and "${" in line:
        reason = "inside { } or [ ], YAML takes the braces of a variable for its own"
        return wrong(str(place), value, reason, 'the variable in quotes: "${NAME}"')
    if known is not None:
        return wrong(str(place), value, *known[1:])
    return wrong(str(place), value, f"it is not YAML: {' '.join(problem.split())}", "the line in YAML")
