"""Which settings, flags and addresses hold a secret; how they are shown without it."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"
# Not every token is one: a tokenizer has pad_token and eos_token. A variable of the environment always is.
_NAMES = re.compile(
    r"[A-Z0-9_]*_TOKEN$"
    r"|(?i:(?:^|[.-])token$|(?:^|[._-])(?:(?:hub|hf|auth|access|api|bearer|session|tracking)[._-]?token|passw(?:or)?d|pwd"
    r"|secret|(?:api|access|secret|private)[._-]?key|credentials?)$)"
)
_SETTING = re.compile(r"([\w.-]+)=([^&\s'\"]+)")
# To the last @: a password may have one in it.
_CREDENTIALS = re.compile(r"://[^/\s'\"]*@")


def names_secret(name: str) -> bool:
    """Tell whether a setting of this name holds a secret: ``hub_token``, ``AWS_SECRET_ACCESS_KEY``, ``db.password``."""
    return bool(_NAMES.search(name))


def has_credentials(uri: str) -> bool:
    """Tell whether there is a user, a password or a key in an address."""
    return masked(uri) != uri


def masked(text: str, name: str = "") -> str:
    """Hide the credentials of every URI in a text.

    Args:
        text: a URI, or a message that quotes one.
        name: what it is the value of; a secret's is hidden whole.

    Returns:
        The text with ``***`` for user, password and secret query parameters.
    """
    if names_secret(name):
        return HIDDEN
    return _SETTING.sub(_hidden, _CREDENTIALS.sub(f"://{HIDDEN}@", text))


def _hidden(found: re.Match[str]) -> str:
    name, value = found.groups()
    # The value of a setting may be an address with settings of its own.
    return f"{name}={HIDDEN if names_secret(name) else _SETTING.sub(_hidden, value)}"


def shown(value: object, name: str = "") -> object:
    """Return a setting's value without its secrets.

    Args:
        value: JSON types; anything else is returned as it is.
        name: the setting's.
    """
    if value and names_secret(name):
        return HIDDEN
    if isinstance(value, dict):
        return {key: shown(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [shown(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def without_secrets(command: Sequence[str]) -> list[str]:
    """Return a command line with ``***`` for each secret: ``--hub_token X``, ``training.hub_token=X``, ``http://a:b@c``."""
    shown: list[str] = []
    hidden = False
    for word in command:
        name, equals, _ = word.partition("=")
        if hidden and not word.startswith("--"):
            shown.append(HIDDEN)
        elif equals and names_secret(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(masked(word))
        hidden = not equals and word.startswith("-") and names_secret(word)
    return shown
