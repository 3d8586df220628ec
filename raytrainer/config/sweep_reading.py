"""A search space made of what a file says, and what is wrong with its keys, conditions and expressions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError
from typing import Any

from raytrainer.config.sweep_base import Base
from raytrainer.config.sweep_expressions import ExpressionError, names_in
from raytrainer.config.sweep_file import KINDS
from raytrainer.config.sweep_keys import why_not
from raytrainer.config.sweep_parameter import Parameter
from raytrainer.config.sweep_ranges import of_bounds, of_condition, of_values
from raytrainer.config.sweep_space import Expression, SearchSpace, declared, needs
from raytrainer.config.tree import Node, Path
from raytrainer.config.view import Finding
from raytrainer.config.wording import nearest, seen, setting
from raytrainer.errors import Problem

SPACE = "search_space"


def read_space(root: Node, broken: Collection[Path], base: Base) -> tuple[SearchSpace, list[Problem]]:
    """Make a search space of what a sweep's file says.

    Args:
        root: the file.
        broken: the settings that are wrong already; keys with one of them are left out.
        base: the run's config in it.

    Returns:
        The space of the keys that are right, and what is wrong with the others.
    """
    assert base.kind is not None
    kind, defaults = base.kind, base.defaults()
    known = {**defaults, **base.known()}
    problems: list[Problem] = []

    def tell(findings: Iterator[Finding]) -> bool:
        found = [Problem(setting(path, root), seen(root.at(path)), why, fix) for path, why, fix in findings]
        problems.extend(found)
        return not found

    plain = root.value[SPACE].plain()
    whole = {key: said for key, said in plain.items() if not any(path[:2] == (SPACE, key) for path in broken)}
    right = {key: said for key, said in whole.items() if tell(_of_key(key, said, plain, kind))}
    space = declared(right, defaults)
    wrong = plain.keys() - right.keys()
    wrong |= {one.key for one in space.parameters if not tell(_conditions(one, space, plain))}
    wrong |= {one.key for one in space.expressions if not tell(_of_expression(one, space, plain, known))}
    while more := {key for key in right.keys() - wrong if wrong & {*needs(_by_key(space)[key])}}:
        wrong |= more
    space = declared({key: said for key, said in right.items() if key not in wrong}, defaults)
    chain = _cycle(space)
    if chain:
        reason = f"they depend on each other: {' -> '.join([*chain, chain[0]])}"
        at: Path = (SPACE, chain[0])
        problems.append(Problem(setting(at, root), seen(root.at(at)), reason, "one of them without its when or expr"))
    return (SearchSpace(()) if chain else space), problems


def _cycle(space: SearchSpace) -> list[str]:
    """Return keys that depend on each other, the first one of the file first."""
    try:
        list(space.ordered())
    except CycleError as error:
        chain: list[str] = error.args[1][:0:-1]
        at = chain.index(next(one.key for one in space.entries if one.key in chain))
        return chain[at:] + chain[:at]
    return []


def _by_key(space: SearchSpace) -> dict[str, Parameter | Expression]:
    return {one.key: one for one in space.entries}


def _of_key(key: str, said: Mapping[str, Any], space: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    at: Path = (SPACE, key)
    why = why_not(key, kind)
    if why is not None:
        yield at, *why
        return
    over = next((other for other in space if key.startswith(f"{other}.")), None)
    if over is not None:
        yield at, f"{over} is swept as a whole, and this is in it", "one of the two"
    given = [name for name in (*KINDS, "expr") if said.get(name) is not None]
    if not given:
        yield at, "nothing says which values it takes", "loguniform: [1e-5, 1e-3], or choice: [...], for example"
    elif len(given) > 1:
        yield (*at, given[1]), f"{given[0]} is given, too, and a key has one kind of values", "one of the two"
    elif given[0] in ("choice", "grid"):
        yield from of_values((*at, given[0]), said[given[0]])
    elif given[0] == "expr":
        yield from _of_text((*at, "expr"), said["expr"])
    else:
        yield from of_bounds((*at, given[0]), given[0], said[given[0]])


def _of_text(at: Path, text: str) -> Iterator[Finding]:
    try:
        names_in(text)
    except ExpressionError as error:
        yield at, str(error), "256 // scaling.num_workers, for example: arithmetic over keys and numbers"


def _conditions(one: Parameter | Expression, space: SearchSpace, plain: Mapping[str, Any]) -> Iterator[Finding]:
    sampled = {parameter.key: parameter for parameter in space.parameters}
    for other, wanted in one.when.items():
        at: Path = (SPACE, one.key, "when", other)
        if other not in plain:
            near = nearest(other, list(sampled))
            yield at, f"there is no {other} in the search space", near or f"one of {', '.join(sampled)}"
        elif other in sampled:
            yield from of_condition(at, sampled[other], wanted)
        elif any(computed.key == other for computed in space.expressions):
            yield at, f"{other} is computed, and a condition is about what is sampled", "a key that is sampled"


def _of_expression(
    one: Expression, space: SearchSpace, plain: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[Finding]:
    yield from _conditions(one, space, plain)
    at: Path = (SPACE, one.key, "expr")
    for name in names_in(one.text):
        if name in plain:
            yield from _left_out(at, one, name, space, known)
        elif name not in known:
            near = nearest(name, [*plain, *known])
            yield at, f"there is no {name}, neither in the search space nor in the base", near or "a key of one of them"
        elif not isinstance(known[name], int | float | str):
            yield at, f"the base does not say what {name} is", f"{name} in the base, or in the search space"


def _left_out(at: Path, one: Expression, name: str, space: SearchSpace, known: Mapping[str, Any]) -> Iterator[Finding]:
    other = _by_key(space).get(name)
    if other is None or known.get(name) is not None or name == one.key:
        return
    if any(condition not in one.when.items() for condition in other.when.items()):
        yield at, f"{name} is not always there, and the base has none", f"the same when as {name} has"
