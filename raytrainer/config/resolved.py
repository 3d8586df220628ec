"""A config as it was run, written so that it runs again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from raytrainer.config.tree import Path
from raytrainer.config.variables import names_of_kubernetes
from raytrainer.config.yaml_values import scalar
from raytrainer.secrets import names_secret, shown


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads: text that YAML 1.2 or 1.1 would take for something else gets quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Variable(str):
    """Text with a variable, whose value is no text: without quotes it becomes that value again."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = isinstance(scalar(text), str) and "${" not in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def _variable(dumper: yaml.SafeDumper, text: _Variable) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Variable, _variable)


def resolved_yaml(config: Any, secrets: Mapping[Path, str] | None = None) -> str:
    """Return a whole config as YAML, defaults filled in; loaded again it is equal.

    Args:
        config: one of the models of ``schema.py``.
        secrets: text to write instead of the value, by path: names of variables that hold passwords.
    """
    values = config.model_dump(by_alias=True)
    if values.get("training") is None:
        values.pop("training", None)
    return written(values, secrets or {})


def written(values: Any, secrets: Mapping[Path, str]) -> str:
    """Return plain values as YAML that the loader reads as the same values; of secrets the names of their variables."""
    return yaml.dump(
        _escaped(values, (), secrets),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=120,
        default_flow_style=False,
    )


def _escaped(value: Any, path: Path, secrets: Mapping[Path, str]) -> Any:
    if path in secrets:
        return secrets[path] if isinstance(value, str) else _Variable(secrets[path])
    if isinstance(value, dict):
        return {key: _escaped(item, (*path, key), secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item, (*path, number), secrets) for number, item in enumerate(value)]
    named = bool(path) and names_secret(str(path[-1])) and not names_of_kubernetes(path)
    if isinstance(value, str) and value and named:
        # Loaded again without that variable it is an error that names it.
        return _Variable(f"${{{str(path[-1]).upper()}}}")
    return str(shown(value)).replace("$", "$$") if isinstance(value, str) else value
