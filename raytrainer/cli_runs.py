"""The commands for runs and sweeps on a Ray cluster. Each imports what it needs, so that --help answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from raytrainer.cli_arguments import Address, ConfigFile, Settings
from raytrainer.errors import Problem, UserError

commands = typer.Typer()


@commands.command(
    "train", epilog="example: raytrainer train examples/seq2seq.yaml training.learning_rate=1e-3 scaling.num_workers=4"
)
def _train(config: ConfigFile, settings: Settings = None, address: Address = None) -> None:
    """Run a config: train, evaluate, save the model.

    The run's folder is run.storage_path/name. It has the config in full, the checkpoints, the model and outcome.json.
    """
    from raytrainer.config.loading import load_config

    loaded = load_config(config, settings or [])
    from raytrainer.config.schema import Script
    from raytrainer.launch.train import train, train_script

    if isinstance(loaded.config, Script):
        raise typer.Exit(train_script(loaded.config, address))
    train(loaded.config, loaded.secrets, address)


@commands.command("tune", epilog="example: raytrainer tune tune_configs/learning_rate.yaml tune.num_samples=20")
def _tune(
    config: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep, a YAML file.", show_default=False)],
    settings: Settings = None,
    address: Address = None,
) -> None:
    """Search for better settings: many trials of a config, the best of them kept.

    The sweep's folder is run.storage_path/name. It has the trials, results.csv and results.json, best.yaml for
    raytrainer train, the best model, and report.html. Ctrl-C stops it; raytrainer resume goes on.
    """
    from raytrainer.config.sweep import load_sweep

    loaded = load_sweep(config, settings or [])
    from raytrainer.launch.tune import tune

    tune(loaded, address)


@commands.command("check", epilog="example: raytrainer check examples/seq2seq.yaml --timed")
def _check(
    config: ConfigFile,
    settings: Settings = None,
    timed: Annotated[
        bool, typer.Option("--timed", help="Train a few steps and tell how long all of them take.")
    ] = False,
    address: Address = None,
) -> None:
    """See everything about a run that can be known before it costs anything.

    Cluster, storage on every node, MLflow, data, model, precision, memory, batch, steps: a line each, with a verdict.
    The data that was prepared is kept for the run. The exit status is 2 where something failed.
    """
    from raytrainer.config.loading import load_config

    loaded = load_config(config, settings or [])
    from raytrainer.config.schema import Script
    from raytrainer.launch.check import check

    if isinstance(loaded.config, Script):
        reason, fix = "what a script does is known when it runs", "raytrainer train, or task: or trainer: in its place"
        raise UserError(Problem("script", loaded.config.script, reason, fix))

    raise typer.Exit(check(loaded.config, timed, address))


@commands.command("resume", epilog="example: raytrainer resume runs/dates; raytrainer resume s3://bucket/runs/dates")
def _resume(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The run's folder: output_dir, or storage_path/name.", show_default=False),
    ],
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Go on though model, data or their order are others now.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Another Ray cluster than the run had: HOST:PORT, auto or local.", show_default=False
        ),
    ] = None,
) -> None:
    """Go on with a run that was interrupted, killed, or failed.

    Starts the program of the run again, in the folder it was started in; its training goes on from the newest
    checkpoint that is good. A finished run is left as it is.
    """
    from raytrainer.launch.resume import resume

    resume(run, allow_changes, address)


@commands.command(
    "sync", epilog="example: raytrainer sync runs/dates; raytrainer sync runs/dates --tracking-uri http://host:5000"
)
def _sync(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The folder of a run or a sweep: storage_path/name, or output_dir.", show_default=False
        ),
    ],
    tracking_uri: Annotated[
        str | None,
        typer.Option("--tracking-uri", help="Another store than the run's own, or the same one with its password."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Though a driver on another machine may still be at work.")
    ] = False,
) -> None:
    """Write to MLflow what it lacks of a run or a sweep.

    What a server missed while it was away is in the run's folder. It is written once, however often this is called. A
    run that was never made is made, and one whose driver was killed gets its end state. The exit status is 1 where
    something is left.
    """
    from raytrainer.launch.sync import sync

    raise typer.Exit(0 if sync(run, tracking_uri, force) else 1)


@commands.command("report", epilog="example: raytrainer report runs/dates-sweep")
def _report(
    sweep: Annotated[
        str,
        typer.Argument(metavar="SWEEP", help="The sweep's folder: storage_path/name.", show_default=False),
    ],
) -> None:
    """Make a page of a sweep, and print its trials, best first.

    The page is report.html in the sweep's folder: curves, parallel coordinates, importances, and whether the winner
    beats the base configuration and random search by more than the noise. It needs no network. results.csv and
    results.json are written anew. The sweep may still run, or have died.
    """
    from raytrainer.sweep.report import report

    report(sweep)
