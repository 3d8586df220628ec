"""The command line, from its first word to the exit status."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import raytrainer
from raytrainer import cli_files, cli_jobs, cli_runs, cli_script
from raytrainer.errors import TrainingFailed, UserError

app = typer.Typer(
    help="HuggingFace trainers on Ray Train workers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for each in (cli_runs, cli_script, cli_jobs, cli_files):
    app.add_typer(each.commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; None for this process's.

    Returns:
        The exit status: 0 done, 1 failed, 2 the user's mistake, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Python searches all that torch and transformers make for cycles while they are imported, which makes that a third
    # longer, and once more at its own end, which takes two seconds.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        app(given, prog_name="raytrainer")
    except UserError as error:
        print(f"raytrainer{' ' + given[0] if given else ''}: {error}", file=sys.stderr)
        return 2
    except TrainingFailed as error:
        print(f"raytrainer {given[0]}: {error}", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _show_version(asked: bool) -> None:
    if asked:
        print(f"raytrainer {raytrainer.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    # With a callback typer keeps the commands' names even where there is one only.
    pass
