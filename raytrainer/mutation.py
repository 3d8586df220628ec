"""What other training arguments reset in an optimizer that a checkpoint restored: decided here, done by adoption."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch.optim import Optimizer

Group = dict[str, Any]
"""A group of an optimizer's parameters, without the parameters."""

# Of the training arguments, those that every optimizer of transformers' would take, and where its groups have them.
_GROUP_KEYS = {
    "learning_rate": "initial_lr",
    "weight_decay": "weight_decay",
    "adam_beta1": "betas",
    "adam_beta2": "betas",
    "adam_epsilon": "eps",
}
# Names of one optimizer: its moments are the same.
_ADAMW = {"adamw_torch", "adamw_torch_fused"}


def groups_of(optimizer: Optimizer) -> list[Group]:
    """Return an optimizer's groups as they stand now, copied."""
    return [_without_params(group) for group in optimizer.param_groups]


def adopted(saved: list[Group], fresh: list[Group], optimizer: Optimizer) -> list[Group]:
    """Decide what the groups of a restored optimizer are.

    Args:
        saved: the groups in the checkpoint, with or without ``params``.
        fresh: those of an optimizer built from the new arguments, with its scheduler at step 0.
        optimizer: that optimizer.

    Returns:
        The saved groups, with every hyperparameter as in the fresh ones. What an optimizer itself counts in its groups
        (schedule-free's and Prodigy's ``k`` and ``d``) is a moment, and stays.
    """
    counted = optimizer.defaults.keys() - _constructor_parameters(type(optimizer))
    return [
        {**old, **copy.deepcopy({key: value for key, value in new.items() if key not in counted})}
        for old, new in zip(saved, fresh, strict=True)
    ]


def keeps_moments(saved: list[Group], optimizer: Optimizer, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether a checkpoint's moments are what this optimizer goes on from.

    Args:
        saved: the groups in the checkpoint.
        optimizer: the one built from the new arguments, as it was built.
        before: training arguments of the checkpoint, as its manifest has them; empty where it has none.
        now: the new ones.
    """
    # torch adds a default that groups do not have, and schedulers add keys to groups that are no defaults.
    own = [optimizer.defaults.keys() & group.keys() for group in optimizer.param_groups]
    alike = len(own) == len(saved) and all(keys <= group.keys() for keys, group in zip(own, saved, strict=True))
    return alike and not changes_optimizer(before, now)


def changes_optimizer(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether the arguments name another optimizer than the checkpoint's did."""
    names = {before.get("optim", now["optim"]), now["optim"]}
    return len(names) > 1 and not names <= _ADAMW


def without_effect(
    before: dict[str, Any], now: dict[str, Any], saved: list[Group], fresh: list[Group]
) -> dict[str, list[Any]]:
    """Find what changed in the arguments and reached no optimizer: a program's own may not look at them.

    Args:
        before: training arguments of the checkpoint, as its manifest has them.
        now: the new ones.
        saved: the groups in the checkpoint.
        fresh: those of the optimizer that was built now.

    Returns:
        Name of each such argument, to what the groups have instead.
    """
    found = {}
    for name, key in _GROUP_KEYS.items():
        then, since = [group.get(key) for group in saved], [group.get(key) for group in fresh]
        if before.get(name, now[name]) != now[name] and _same(then, since):
            found[name] = since
    return found


def _same(one: list[Any], other: list[Any]) -> bool:
    # A pair comes back from some checkpoints as a list.
    return [[*v] if isinstance(v, tuple) else v for v in one] == [[*v] if isinstance(v, tuple) else v for v in other]


def _without_params(group: Group) -> Group:
    return copy.deepcopy({key: value for key, value in group.items() if key != "params"})


def _constructor_parameters(kind: type) -> set[str]:
    own = (vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object)
    return {name for init in own for name in inspect.signature(init).parameters}
