"""The command line. Each command imports what it needs, so that --help answers at once."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

import raytrainer
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
    train(loaded.config, loaded.secrets, address)


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
    address: Address = None,
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
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME", help="A variable that the workers get from here; more than once."),
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
        env=env or [],
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


@app.command(
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


JobServer = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The head's dashboard, http://head:8265; by default RAY_API_SERVER_ADDRESS, RAY_ADDRESS, this machine.",
        show_default=False,
    ),
]
JobID = Annotated[str, typer.Argument(metavar="ID", help="As raytrainer jobs lists it.", show_default=False)]


@app.command(
    "submit",
    epilog="examples: raytrainer submit --address http://head:8265 run.yaml training.max_steps=500;"
    " raytrainer submit --no-wait -- python train.py --epochs 3;"
    " raytrainer submit --kube run.yaml kubernetes.image=registry.example.com/train:1",
    context_settings={"allow_interspersed_args": False},
)
def _submit(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG [KEY=VALUE...] | -- COMMAND...",
            help="A run or a sweep; or any command.",
            show_default=False,
        ),
    ],
    address: JobServer = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow it.")] = False,
    working_dir: Annotated[
        str | None,
        typer.Option("--working-dir", help="The folder that the job gets; by default this one.", show_default=False),
    ] = None,
    requirements: Annotated[
        str | None,
        typer.Option("--requirements", metavar="FILE", help="Pinned packages that the cluster installs first."),
    ] = None,
    uv: Annotated[bool, typer.Option("--uv", help="Install them with uv in the place of pip.")] = False,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="An environment variable that the job gets; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the ID of a command's job begins with.")] = None,
    kube: Annotated[
        bool, typer.Option("--kube", help="A Kubernetes cluster with KubeRay, in the place of a Ray cluster.")
    ] = False,
    context: Annotated[
        str | None, typer.Option("--context", help="With --kube: the kubeconfig's context.", show_default=False)
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="With --kube: by default the config's, or the context's."),
    ] = None,
) -> None:
    """Run a config or a command as a job of a Ray cluster, or a config on Kubernetes, and follow it.

    The job gets the working directory, without what .gitignore and .rayignore name, virtual environments, checkpoints
    and large data that the config does not name. The exit status is the job's. Ctrl-C twice stops it. A config's job
    that is started again goes on where it was.

    With --kube the cluster gets what raytrainer manifest writes, and makes its own Ray cluster for the run. Code and
    data are in the image, or where the config's section kubernetes says.
    """
    from pathlib import Path

    if kube:
        from raytrainer.launch.kube import submit as submit_to_kubernetes
        from raytrainer.launch.kube_options import only_a_config

        given: dict[str, Any] = {"--address": address, "--working-dir": working_dir, "--requirements": requirements}
        only_a_config(what, {**given, "--uv": uv or None, "--env": env, "--name": name})
        raise typer.Exit(submit_to_kubernetes(what[0], what[1:], context, namespace, wait=not no_wait))
    if context or namespace:
        option = "--context" if context else "--namespace"
        raise UserError(Problem(option, context or namespace, "it is of a Kubernetes cluster", "--kube with it"))
    from raytrainer.launch.submit import Submission, of_config, submit

    root = Path(working_dir or ".").resolve()
    options: dict[str, Any] = {"requirements": requirements, "variables": env or []}
    options["installer"] = "uv" if uv else "pip"
    if what[0].endswith((".yaml", ".yml")):
        submission = of_config(what[0], what[1:], root, **options)
    else:
        submission = Submission(what, name or "command", root, **options)
    raise typer.Exit(submit(submission, address, wait=not no_wait))


@app.command("jobs", epilog="example: raytrainer jobs --address http://head:8265")
def _jobs(address: JobServer = None) -> None:
    """List a cluster's jobs, the newest first."""
    from raytrainer.launch.jobs import connect, show

    show(connect(address))


@app.command("logs", epilog="example: raytrainer logs dates-1f0c3a9b --follow")
def _logs(
    job: JobID,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until it ends; the exit status is the job's.")
    ] = False,
    address: JobServer = None,
) -> None:
    """Show what a job has written."""
    from raytrainer.launch import jobs

    client = jobs.connect(address)
    jobs.details(client, job)
    if follow:
        raise typer.Exit(jobs.follow(client, job))
    print(client.get_job_logs(job), end="")


@app.command("stop", epilog="example: raytrainer stop dates-1f0c3a9b")
def _stop(job: JobID, address: JobServer = None) -> None:
    """Stop a job, and wait until it has stopped."""
    from raytrainer.launch import jobs

    client = jobs.connect(address)
    jobs.details(client, job)
    client.stop_job(job)
    print(f"{job}: {str(jobs.ended(client, job).status).lower()}")


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


@app.command(
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
