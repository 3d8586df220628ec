"""Environment variables in a config's text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from raytrainer.config.tree import Node, Path, dotted
from raytrainer.config.yaml_values import scalar
from raytrainer.errors import Problem, unknown_name

VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{(?P<bad>[^}]*)\}?")
SECRET = re.compile("PASSWORD|PASSWD|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)


def names_of_kubernetes(path: Path) -> bool:
    """Tell whether a setting says what something is called there, as ``kubernetes.mlflow.secret`` does."""
    return path[:1] == ("kubernetes",) and (path[1:2] != ("env",) or len(path) != 3)


def put_in(root: Node, environment: Mapping[str, str] = os.environ) -> tuple[Node, dict[Path, Problem]]:
    """Put the environment's variables into a config's text.

    ``${NAME}`` is the variable's value, ``${NAME:-default}`` the default where it is unset or empty, ``$$`` a dollar.
    Text that is one variable and has no quotes becomes what its value means in YAML, so that it can be a number.

    Returns:
        The config, and what is wrong with its variables, by the setting that they are in.
    """
    problems: dict[Path, Problem] = {}

    def visit(node: Node, path: Path) -> Node:
        if isinstance(node.value, dict):
            return replace(node, value={key: visit(item, (*path, key)) for key, item in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[visit(item, (*path, number)) for number, item in enumerate(node.value)])
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        return text(node, path)

    def text(node: Node, path: Path) -> Node:
        def value(match: re.Match[str]) -> str:
            name, default, bad = match["name"], match["default"], match["bad"]
            if match.group() == "$$":
                return "$"
            if bad is not None:
                problem = "this is no name of a variable", "${NAME} for a variable, $$ for a dollar"
            elif default is not None:
                return environment.get(name) or default
            elif name in environment:
                return environment[name]
            else:
                near = unknown_name(name, list(environment)) if environment else ""
                hint = f", or {near[6:]}" if near.startswith("write ") else ""
                problem = f"the environment has no variable {name}", f"export {name}=..., or ${{{name}:-default}}{hint}"
            problems[path] = Problem(f"{dotted(path)} ({node.place})", node.value, *problem)
            return ""

        secret = any(SECRET.search(match["name"] or "") for match in VARIABLE.finditer(node.value))
        done: object = VARIABLE.sub(value, node.value)
        whole = VARIABLE.fullmatch(node.value)
        if whole and whole["name"] and not node.quoted:
            done = scalar(str(done))
        return replace(node, value=done, written=node.value if secret else None)

    return visit(root, ()), problems
