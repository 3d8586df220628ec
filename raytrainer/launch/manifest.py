"""``raytrainer manifest``: a config becomes what kubectl applies. Imports neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from raytrainer.errors import NOTHING, Problem, UserError
from raytrainer.launch.manifest_documents import documents
from raytrainer.launch.manifest_request import Kind, request
from raytrainer.launch.manifest_rules import check

Form = Literal["yaml", "kustomize"]


def manifest(path: str, settings: Sequence[str], kind: Kind = "RayJob") -> dict[str, dict[str, Any]]:
    """Make a config's manifest.

    Args:
        path: the config's file, of a run or of a sweep.
        settings: ``key.sub=value``, which count more than the file's.
        kind: a job with a cluster of its own, or a cluster that stays.

    Returns:
        The documents by the names of their files, in the order in which they are applied.

    Raises:
        ConfigError: with everything that is wrong.
    """
    asked = request(path, settings, kind)
    check(asked)
    return documents(asked)


def write(made: dict[str, dict[str, Any]], form: Form, to: str | None) -> None:
    """Print a manifest, or write it.

    Args:
        made: the documents by the names of their files.
        form: one YAML file, or a folder for ``kubectl apply -k`` and overlays.
        to: file or folder; None for the terminal.

    Raises:
        UserError: it cannot be written there.
    """
    if form == "yaml":
        whole = "---\n".join(text(document) for document in made.values())
        if to is None:
            print(whole, end="")
            return
        files = {Path(to): whole}
    elif to is None:
        reason = "a kustomization is a folder of files, and nothing says which"
        raise UserError(Problem("--to", NOTHING, reason, "--to FOLDER, or -o yaml"))
    else:
        listed = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [*made]}
        files = {Path(to) / name: text(document) for name, document in {**made, "kustomization.yaml": listed}.items()}
    try:
        for file, content in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    except OSError as error:
        reason = f"it cannot be written: {error.strerror}"
        raise UserError(Problem("--to", to, reason, "a path in a folder that can be written to")) from None


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as it is, and everything as often as it is there."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def text(document: dict[str, Any]) -> str:
    """Return a document as YAML."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
