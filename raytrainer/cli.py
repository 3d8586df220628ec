"""The command line. Each command imports what it needs, so that --help answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from raytrainer.errors import Problem, TrainingFailed, UserError

app = typer.Typer(
    help="HuggingFace trainers on Ray Train workers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; None for this process's.

    Returns:
        The exit status: 0 done, 1 failed, 2 the user's mistake, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
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


@app.callback()
def _program() -> None:
    # With a callback typer keeps the commands' names even where there is one only.
    pass


ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="The config, a YAML file.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that count more than the file's.", show_default=False),
]

Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="The Ray cluster; by default RAY_ADDRESS, else a Ray of its own.", show_default=False
    ),
]


@app.command(
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
    train(loaded.config, loaded.yaml(), address)


@app.command("tune", epilog="example: raytrainer tune tune_configs/learning_rate.yaml tune.num_samples=20")
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


@app.command("check", epilog="example: raytrainer check examples/seq2seq.yaml --timed")
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


@app.command(
    "run",
    epilog="examples: raytrainer run -n 4 --use-gpu train.py --output_dir out;"
    " raytrainer run -n 2 --storage-path s3://bucket/runs --name glue -m package.train args.json",
    context_settings={"allow_interspersed_args": False},
)
def _run(
    script: Annotated[str, typer.Argument(metavar="SCRIPT", help="A Python file; with -m, a module's name.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS...", help="The script's own.", show_default=False)
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option("-n", "--num-workers", help="Workers; by default one a GPU of the cluster, without GPUs one."),
    ] = None,
    use_gpu: Annotated[bool, typer.Option("--use-gpu", help="A GPU for every worker.")] = False,
    cpus_per_worker: Annotated[
        float | None, typer.Option("--cpus-per-worker", help="CPU slots of a worker, by default 1.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is a module's name, as for python -m.")] = False,
    storage_path: Annotated[
        str | None,
        typer.Option("--storage-path", help="Folder or URI that gets checkpoints, output_dir and logs of the run."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The run's folder in the storage.")] = None,
    max_failures: Annotated[
        int, typer.Option("--max-failures", help="How often to go on after a failure; -1 for ever.")
    ] = 0,
    address: Annotated[
        str | None,
        typer.Option("--address", help="The Ray cluster; by default RAY_ADDRESS, else a Ray of its own."),
    ] = None,
    loss_scale: Annotated[
        str | None,
        typer.Option("--loss-scale", help="auto corrects models that ignore num_items_in_batch; or transformers."),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--mlflow-tracking-uri", help="By default MLFLOW_TRACKING_URI, else ./mlflow.db.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--mlflow-experiment", help="By default MLFLOW_EXPERIMENT_NAME.")
    ] = None,
    no_mlflow: Annotated[bool, typer.Option("--no-mlflow", help="Record nothing in MLflow.")] = False,
) -> None:
    """Run a Trainer script on Ray workers, unchanged, as torchrun does on one machine.

    Every worker runs it as `__main__` with its own arguments. Its metrics and checkpoints are reported, a training
    whose worker dies goes on from the newest checkpoint (--max-failures), and rank 0's output is shown as it is
    written. The exit status is the script's.
    """
    variables = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_EXPERIMENT_NAME": experiment}
    os.environ.update({name: value for name, value in variables.items() if value is not None})
    from raytrainer.launch.script import run_script
    from raytrainer.launch.script_call import ScriptCall

    call = ScriptCall(
        script=script,
        module=module,
        arguments=arguments or [],
        num_workers=num_workers,
        use_gpu=use_gpu,
        cpus_per_worker=cpus_per_worker,
        storage_path=storage_path,
        name=name,
        max_failures=max_failures,
        address=address,
        loss_scale=loss_scale,
        mlflow=not no_mlflow,
    )
    raise SystemExit(run_script(call))


@app.command("resume", epilog="example: raytrainer resume runs/dates; raytrainer resume s3://bucket/runs/dates")
def _resume(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The run's folder: output_dir, or storage_path/name.", show_default=False),
    ],
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Go on though model, data or their order are others now.")
    ] = False,
) -> None:
    """Go on with a run that was interrupted, killed, or failed.

    Starts the program of the run again, in the folder it was started in; its training goes on from the newest
    checkpoint that is good. A finished run is left as it is.
    """
    from raytrainer.launch.resume import resume

    resume(run, allow_changes)


@app.command("report", epilog="example: raytrainer report runs/dates-sweep")
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


@app.command("schema", epilog="example: raytrainer schema --output raytrainer.schema.json")
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
