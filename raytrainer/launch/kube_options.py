"""Options of ``raytrainer submit`` that a job on Kubernetes has settings for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raytrainer.errors import ArgumentsError, Problem, Seen

_INSTEAD = {
    "--address": "--context, a context of the kubeconfig",
    "--working-dir": "kubernetes.working_dir, a folder of the image or the URI of a zip",
    "--requirements": "an image with the packages (kubernetes.image)",
    "--uv": "an image with the packages (kubernetes.image)",
    "--env": "kubernetes.env: {NAME: value}, or {NAME: {secret: NAME, key: KEY}}",
    "--name": "kubernetes.name, or the config's own name",
}


def only_a_config(what: Sequence[str], given: Mapping[str, object]) -> None:
    """Refuse what a job of a Ray cluster may have, and one on Kubernetes has otherwise.

    Args:
        what: the config and its settings; or a command.
        given: options by name; None where one is not given.

    Raises:
        ArgumentsError: there is such an option, or it is a command.
    """
    if not what[0].endswith((".yaml", ".yml")):
        reason, fix = "on Kubernetes a config is run", "a config with script: and a section kubernetes"
        raise ArgumentsError(Problem("--kube", Seen(" ".join(what)), reason, fix))
    problems = [
        Problem(name, value, "on Kubernetes the config says it", _INSTEAD[name])
        for name, value in given.items()
        if value is not None
    ]
    if problems:
        raise ArgumentsError(*problems)
