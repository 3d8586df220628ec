"""The command for unchanged scripts."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from raytrainer.cli_arguments import Address

commands = typer.Typer()


@commands.command(
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
