"""The command line: arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="The config, a YAML file.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that count more than the file's.", show_default=False),
]

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The Ray cluster: HOST:PORT, auto for the one on this machine, local for a Ray of its own. By default"
        " RAY_ADDRESS, else local.",
        show_default=False,
    ),
]
