"""The commands that write files for other programs: Kubernetes, and editors."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from raytrainer.cli_arguments import Settings
from raytrainer.errors import Problem, UserError

commands = typer.Typer()


@commands.command(
    "manifest",
    epilog="example: raytrainer manifest run.yaml kubernetes.image=registry.example.com/train:1 | kubectl apply -f -",
)
def _manifest(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A run's config or a sweep, a YAML file.", show_default=False)
    ],
    settings: Settings = None,
    kind: Annotated[
        Literal["RayJob", "RayCluster"],
        typer.Option("--kind", help="A job with a cluster of its own, or a cluster that stays."),
    ] = "RayJob",
    form: Annotated[
        Literal["yaml", "kustomize"], typer.Option("--output", "-o", help="One file, or a folder for kubectl apply -k.")
    ] = "yaml",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PATH", help="File or folder; by default the terminal.", show_default=False),
    ] = None,
) -> None:
    """Print what runs a config on Kubernetes, through KubeRay: job, config and network policy.

    Pods follow from scaling, for a sweep from the trials that run at a time, and from the config's section
    kubernetes. Secrets are references; a config with a secret in clear text is refused.
    """
    from raytrainer.launch.manifest import manifest, write

    write(manifest(config, settings or [], kind), form, to)


@commands.command("schema", epilog="example: raytrainer schema --output raytrainer.schema.json")
def _schema(
    sweep: Annotated[bool, typer.Option("--sweep", help="Of sweeps: search_space and tune, too.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON schema of configs, or of sweeps, with the training arguments of the installed transformers.

    With it an editor completes and checks a config. One that uses yaml-language-server reads where the schema is from
    the config's first line:

    `# yaml-language-server: $schema=raytrainer.schema.json`
    """
    import json

    from raytrainer.config.json_schema import json_schema

    text = json.dumps(json_schema(sweep), indent=2, ensure_ascii=False)
    if output is None:
        print(text)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        reason = f"it cannot be written: {error.strerror}"
        raise UserError(Problem("--output", output, reason, "the path of a file, in a folder that is there")) from None
