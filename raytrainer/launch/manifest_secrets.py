"""Secrets that a config says in clear text, where a manifest would show them to everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from raytrainer.config.tree import Node, Path
from raytrainer.config.variables import SECRET, VARIABLE, names_of_kubernetes
from raytrainer.config.wording import setting
from raytrainer.errors import Problem, Seen
from raytrainer.launch.manifest_request import Request
from raytrainer.secrets import names_secret

_VALUES = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bAKIA[A-Z0-9]{12,}|\bdapi[0-9a-f]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]*:(?!\$\{)[^/\s@]+@|[?&](?:access|secret)_key=(?!\$\{)[^&\s]",
    re.IGNORECASE,
)


def literal_secrets(asked: Request) -> Iterator[Problem]:
    """Yield a problem for each setting that has a secret in it, or would be one in the manifest."""
    for path, node in asked.root.walk():
        if not isinstance(node.value, str) or not node.value:
            continue
        in_pods = path[0] == "kubernetes"
        text = node.value if node.written is None else node.written
        if in_pods and node.written is not None:
            reason = "the variable's value would be in the manifest, for everybody to read"
            yield _problem(path, asked.root, Seen(node.written), reason)
        elif _VALUES.search(text) or (node.written is None and _secret_by_name(path)):
            reason = "this is a secret, and everybody may read manifests and ConfigMaps"
            yield _problem(path, asked.root, Seen("(not shown)"), reason)


def unknown_variables(asked: Request) -> Iterator[Problem]:
    """Yield a problem for each variable that the config keeps for the pods, and that no pod has."""
    kubernetes = asked.asked
    if kubernetes.env_from or kubernetes.storage.secret:
        return
    for path, node in asked.root.walk():
        if node.written is None or path[0] == "kubernetes":
            continue
        for found in VARIABLE.finditer(node.written):
            name = found["name"]
            if name and found["default"] is None and name not in kubernetes.env:
                reason = f"the variable {name} stays a variable in the pods, and nothing says what it is there"
                fix = f"kubernetes.env: {{{name}: {{secret: NAME, key: {name}}}}}, or kubernetes.env_from: [NAME]"
                yield Problem(setting(path, asked.root), Seen(node.written), reason, fix)


def _secret_by_name(path: Path) -> bool:
    if names_of_kubernetes(path):
        return False
    # There every variable is seen by everybody.
    return bool(SECRET.search(str(path[-1]))) if path[0] == "kubernetes" else names_secret(str(path[-1]))


def _problem(path: Path, root: Node, seen: Seen, reason: str) -> Problem:
    name = path[-1].upper() if isinstance(path[-1], str) else "NAME"
    fix = f"kubernetes.env: {{{name}: {{secret: a Secret of the namespace, key: a key in it}}}}"
    fix = fix if path[:2] == ("kubernetes", "env") else f"${{{name}}} here, and {fix}"
    return Problem(setting(path, root), seen, reason, fix)
