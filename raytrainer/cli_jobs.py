"""The commands for jobs: of a Ray cluster, or on Kubernetes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from raytrainer.errors import Problem, UserError

commands = typer.Typer()

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


@commands.command(
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


@commands.command("jobs", epilog="example: raytrainer jobs --address http://head:8265")
def _jobs(address: JobServer = None) -> None:
    """List a cluster's jobs, the newest first."""
    from raytrainer.launch.jobs import connect, show

    show(connect(address))


@commands.command("logs", epilog="example: raytrainer logs dates-1f0c3a9b --follow")
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


@commands.command("stop", epilog="example: raytrainer stop dates-1f0c3a9b")
def _stop(job: JobID, address: JobServer = None) -> None:
    """Stop a job, and wait until it has stopped."""
    from raytrainer.launch import jobs

    client = jobs.connect(address)
    jobs.details(client, job)
    client.stop_job(job)
    print(f"{job}: {str(jobs.ended(client, job).status).lower()}")
