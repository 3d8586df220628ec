"""``raytrainer submit --kube`` against a server that speaks the Kubernetes API over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("kmock", reason="kmock, the server of these tests, needs Python 3.11")

from raytrainer.cli import main
from raytrainer.launch import kube_cluster, kube_follow
from raytrainer.launch.manifest import manifest
from tests.e2e.kube_server import BREAKS, CLOSES, TOKEN, ApiServer, Operator, kubeconfig, serving
from tests.unit.manifest_configs import RUN, SWEEP, changed
from tests.waiting import until

NEEDS = {
    "kubernetes.storage": {"secret": "object-store"},
    "kubernetes.env": {"HF_TOKEN": {"secret": "hub", "key": "token"}},
}
FAILED = {"reason": "AppFailed", "message": "Job entrypoint command failed with exit code 1"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ApiServer, str]]:
    with serving() as (server, url):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", url)))
        yield server, url


def config(folder: Path, base: dict[str, Any] = RUN, **changes: Any) -> str:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(changed(base, changes), sort_keys=False))
    return str(path)


class Program:
    """The command in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **changes: Any) -> None:
        self.out, self.err = folder / "out", folder / "err"
        command = [sys.executable, "-m", "raytrainer", "submit", "--kube", *arguments, config(folder, **changes)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=err)

    def tells(self, what: str) -> None:
        until(lambda: what in self.err.read_text() or self.process.poll() is not None, what)
        assert what in self.err.read_text()

    def writes(self, what: str) -> None:
        until(lambda: what in self.out.read_text(), what)

    def ends(self) -> int:
        return self.process.wait(120)


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path, server: tuple[ApiServer, str]) -> Iterator[Program]:
    arguments = getattr(request, "param", ())
    begun = Program(tmp_path, *arguments)
    yield begun
    if begun.process.poll() is None:
        begun.process.kill()
        begun.process.wait()


def test_a_run_is_made_followed_and_succeeds(program: Program, server: tuple[ApiServer, str], tmp_path: Path) -> None:
    api, operator = server[0], Operator.at(server[1])
    program.writes("submitted dates\n")
    for document in manifest(config(tmp_path), []).values():
        # What the command prints is what is there.
        kind = {"ConfigMap": "v1/configmaps", "NetworkPolicy": "networking.k8s.io/v1/networkpolicies"}
        key = (kind.get(document["kind"], "ray.io/v1/rayjobs"), "team", document["metadata"]["name"])
        assert dict(api.objects[key]) == document
    operator.says("Suspended")
    program.tells("dates: suspended")
    operator.says("Initializing")
    program.tells("dates: initializing")
    reason = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason}
    for number in range(2):
        operator.pod(f"worker-{number}", phase="Pending", conditions=[unscheduled])
    program.tells(f"dates: 2 pods cannot begin: {reason}")
    for number in range(2):
        operator.pod(f"worker-{number}", phase="Running", conditions=[])
    # Of another run, and not waited for.
    Operator.at(server[1], name="other").pod("stranger", phase="Pending", conditions=[{**unscheduled, "message": "!"}])
    operator.says("Running", "RUNNING")
    program.tells("dates: running")
    api.lines["submitter"] = [b"2026-01-01T00:00:00.1Z step 1\n"]
    operator.submitter("submitter")
    program.writes("step 1\n")
    api.lines["submitter"] += [b"2026-01-01T00:00:00.12Z step 2\n"]
    program.writes("step 2\n")
    operator.says("Complete", "SUCCEEDED")
    program.tells("dates: succeeded")
    with pytest.raises(subprocess.TimeoutExpired):
        # The last lines are still to come.
        program.process.wait(2)
    api.lines["submitter"] += [b"2026-01-01T00:00:01Z done\n", None]
    operator.submitter("submitter", "terminated")
    assert program.ends() == 0
    assert program.out.read_text() == "submitted dates\nstep 1\nstep 2\ndone\n"
    assert "!" not in program.err.read_text()


def test_a_run_that_fails_again_and_again_fails(program: Program, server: tuple[ApiServer, str]) -> None:
    api, operator = server[0], Operator.at(server[1])
    program.writes("submitted dates\n")
    api.lines = {name: [f"2026-01-01T00:00:0{number}Z {name}\n".encode(), None] for number, name in enumerate("ab")}
    operator.says("Running", "RUNNING")
    operator.submitter("a", "terminated")
    program.writes("a\n")
    operator.says("Retrying", "FAILED", failed=1, **FAILED)
    program.tells("dates: begins again with new pods, 1 of 3 attempts failed: AppFailed: Job entrypoint")
    operator.says("Running", "RUNNING")
    operator.submitter("b", "terminated")
    operator.says("Failed", "FAILED", failed=3, **FAILED)
    assert program.ends() == 1
    assert program.out.read_text() == "submitted dates\na\nb\n"
    assert "dates: failed: AppFailed: Job entrypoint command failed with exit code 1" in program.err.read_text()


def test_ctrl_c_once_asks_and_twice_deletes_the_job(program: Program, server: tuple[ApiServer, str]) -> None:
    operator = Operator.at(server[1])
    program.writes("submitted dates\n")
    operator.says("Running", "RUNNING")
    program.tells("dates: running")
    program.process.send_signal(signal.SIGINT)
    logs = "kubectl --context here -n team logs -f job/dates"
    program.tells(f"once more stops dates; it goes on without this program, too: {logs}")
    assert operator.job() is not None and program.process.poll() is None
    program.process.send_signal(signal.SIGINT)
    assert program.ends() == 130
    assert "stopping dates" in program.err.read_text()
    assert operator.job() is None


def test_a_job_that_somebody_deletes_or_stops_was_stopped(program: Program, server: tuple[ApiServer, str]) -> None:
    operator = Operator.at(server[1])
    program.writes("submitted dates\n")
    operator.says("Complete", "STOPPED")
    assert program.ends() == 130


def test_the_log_goes_on_where_a_connection_broke(program: Program, server: tuple[ApiServer, str]) -> None:
    api, operator = server[0], Operator.at(server[1])
    lines = [f"2026-01-01T00:00:00.{number}Z line {number}\n".encode() for number in (1, 15, 2, 25)]
    # A connection may break, and a server that is started anew ends it in good order.
    api.lines["submitter"] = [*lines[:2], BREAKS, lines[2], CLOSES, lines[3], None]
    program.writes("submitted dates\n")
    operator.says("Running", "RUNNING")
    operator.submitter("submitter")
    program.writes("line 25\n")
    operator.submitter("submitter", "terminated")
    operator.says("Complete", "SUCCEEDED")
    assert program.ends() == 0
    assert program.out.read_text() == "submitted dates\nline 1\nline 15\nline 2\nline 25\n"


def test_another_submitter_shows_the_output_from_its_beginning(program: Program, server: tuple[ApiServer, str]) -> None:
    api, operator = server[0], Operator.at(server[1])
    api.lines["first"] = [b"2026-01-01T00:00:00Z line 1\n", None]
    api.lines["second"] = [b"2026-01-01T00:00:01Z line 1\n", b"2026-01-01T00:00:02Z line 2\n", None]
    program.writes("submitted dates\n")
    operator.says("Running", "RUNNING")
    operator.submitter("first", "terminated")
    program.writes("line 1\n")
    assert "from the beginning" not in program.err.read_text()
    operator.submitter("second", "terminated")
    program.tells("dates: its output from the beginning, from the pod second")
    operator.says("Complete", "SUCCEEDED")
    assert program.ends() == 0
    assert program.out.read_text() == "submitted dates\nline 1\nline 1\nline 2\n"


def test_an_api_that_is_away_for_a_while_is_waited_for(program: Program, server: tuple[ApiServer, str]) -> None:
    api, operator = server[0], Operator.at(server[1])
    program.writes("submitted dates\n")
    api.refusals["get", "rayjobs"] = (503, "the server is starting")
    program.tells("dates: it goes on; what it does is not known for now: the server says (503): the server is starting")
    del api.refusals["get", "rayjobs"]
    operator.says("Complete", "SUCCEEDED")
    assert program.ends() == 0


def submit(*arguments: str) -> int:
    return main(["submit", "--kube", *arguments])


def made(api: ApiServer) -> list[str]:
    return [name for (_, _, name), each in api.objects.items() if not each.deleted]


@pytest.mark.parametrize(("base", "command"), [(RUN, "train"), (SWEEP, "tune")], ids=["run", "sweep"])
def test_without_waiting_it_is_said_how_to_see_it(
    server: tuple[ApiServer, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    base: dict[str, Any],
    command: str,
) -> None:
    assert submit("--no-wait", config(tmp_path, base)) == 0
    job = Operator.at(server[1]).job()
    assert job is not None and job["spec"]["entrypoint"].startswith(f"raytrainer {command} ")
    said = capsys.readouterr()
    assert said.out == "submitted dates\n"
    assert (
        "kubectl --context here -n team logs -f job/dates; kubectl --context here -n team delete rayjob dates"
        in said.err
    )
    assert sorted(made(server[0])) == ["dates", "dates", "dates-config"]


def test_a_job_that_is_over_is_replaced_and_one_at_work_is_not(
    server: tuple[ApiServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api, operator = server[0], Operator.at(server[1])
    assert submit("--no-wait", config(tmp_path)) == 0
    operator.says("Running", "RUNNING")
    before = len(api.asked)
    assert submit("--no-wait", config(tmp_path)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "a RayJob of this name is at work in the namespace team (running)" in said
    assert "kubectl --context here -n team delete rayjob dates to stop it, or name=OTHER" in said
    assert api.asked[before:] == [("get", "rayjobs")]
    operator.says("Failed", "FAILED", **FAILED)
    assert submit("--no-wait", config(tmp_path, **{"training.max_steps": 200})) == 0
    assert ("delete", "rayjobs") in api.asked
    job = operator.job()
    assert job is not None and "status" not in job
    assert "max_steps: 200" in api.objects["v1/configmaps", "team", "dates-config"]["data"]["config.yaml"]


def test_what_the_manifest_names_has_to_be_there(
    server: tuple[ApiServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api, operator = server[0], Operator.at(server[1])
    operator.core.create_namespaced_secret("team", {"metadata": {"name": "hub"}, "data": {"other": "eA=="}})
    api.rules.append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    needs = {**NEEDS, "kubernetes.service_account": "trainer", "kubernetes.queue": "training"}
    assert submit("--no-wait", config(tmp_path, **needs)) == 2
    said = capsys.readouterr().err
    for setting, reason in (
        ("kubernetes.storage.secret", "the namespace team has no Secret object-store\n"),
        ("kubernetes.env.HF_TOKEN", "the Secret hub has no key token\n  Instead: one of its keys: other\n"),
        ("kubernetes.service_account", "the namespace team has no ServiceAccount trainer\n"),
        ("kubernetes.queue", "the namespace team has no LocalQueue training\n"),
    ):
        assert any(line.startswith(setting) or f" {setting} " in line for line in said.splitlines()), said
        assert reason in said
    assert made(api) == ["hub"]
    volume = {"kubernetes.storage": {"pvc": "runs", "mount": "/mnt/runs"}, "run.storage_path": "/mnt/runs"}
    assert submit("--no-wait", config(tmp_path, **volume)) == 2
    assert "the namespace team has no PersistentVolumeClaim runs\n" in capsys.readouterr().err
    operator.core.create_namespaced_persistent_volume_claim("team", {"metadata": {"name": "runs"}, "spec": {}})
    assert submit("--no-wait", config(tmp_path, **volume)) == 0


def test_who_may_not_see_secrets_is_not_kept_from_running(
    server: tuple[ApiServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--no-wait", config(tmp_path, **NEEDS)) == 0
    assert capsys.readouterr().err.count("secrets are not looked for: you may not get secrets") == 1


def forbidden(verb: str, resource: str) -> tuple[int, str]:
    return 403, f'{resource} is forbidden: User "me" cannot {verb} resource "{resource}" in the namespace "team"'


@pytest.mark.parametrize(
    ("refusal", "answer", "says"),
    [
        (("get", "rayjobs"), forbidden("get", "rayjobs.ray.io"), "a Role with the verb get on rayjobs.ray.io"),
        (("create", "rayjobs"), forbidden("create", "rayjobs.ray.io"), "you may not create rayjobs.ray.io"),
        (("patch", "configmaps"), forbidden("patch", "configmaps"), "auth can-i patch configmaps -n team"),
        (("create", "rayjobs"), (403, "exceeded quota: pods"), "the server says (403): exceeded quota: pods"),
        (("patch", "configmaps"), (404, 'namespaces "team" not found'), "there is no such namespace"),
        (
            ("create", "rayjobs"),
            (400, 'strict decoding error: unknown field "spec.rayClusterSpec.authOptions"'),
            "KubeRay 1.7 or newer in the cluster",
        ),
    ],
    ids=["may-not-get", "may-not-create", "may-not-patch", "quota", "no-namespace", "older-kuberay"],
)
def test_what_the_server_refuses_is_said_before_anything_is_made(
    server: tuple[ApiServer, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refusal: tuple[str, str],
    answer: tuple[int, str],
    says: str,
) -> None:
    server[0].refusals[refusal] = answer
    assert submit(config(tmp_path)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (says in said and answer[1] in said) or "no such namespace" in said
    assert made(server[0]) == []


@pytest.mark.parametrize(
    ("without", "says"), [("RayJob", "helm install kuberay-operator"), ("LocalQueue", "Kueue, 0.15")]
)
def test_a_kind_that_the_cluster_does_not_know_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], without: str, says: str
) -> None:
    with serving(without) as (api, url):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", url)))
        assert submit(config(tmp_path, **{"kubernetes.queue": "training"})) == 2
        assert made(api) == []
    said = capsys.readouterr().err
    assert f"{without} (" in said and "does not know this kind" in said and says in said


def test_who_has_no_valid_token_is_told(
    server: tuple[ApiServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig(tmp_path / "kubeconfig", server[1], token="another")
    assert submit(config(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "does not know who asks (401)" in said and TOKEN not in said


def test_the_cluster_is_the_one_that_kubectl_would_use(
    server: tuple[ApiServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api, url = server
    first = kubeconfig(tmp_path / "first", "http://127.0.0.1:9", context="first")
    second = kubeconfig(tmp_path / "second", url, context="second", namespace="of-the-context")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(first), str(tmp_path / "none"), str(second)]))
    spaces = {"of-the-context": [], "asked": ["--namespace", "asked"], "of-the-config": []}
    for space, option in spaces.items():
        changes = {"kubernetes.namespace": space} if space == "of-the-config" else {}
        assert submit("--no-wait", "--context", "second", *option, config(tmp_path, **changes)) == 0, (
            capsys.readouterr()
        )
        assert api.objects["ray.io/v1/rayjobs", space, "dates"]["metadata"]["name"] == "dates"
    assert submit("--no-wait", "--context", "second", "-n", "x", config(tmp_path, **{"kubernetes.namespace": "y"})) == 2
    assert "--namespace = 'x'" in capsys.readouterr().err
    assert submit("--no-wait", "--context", "third", config(tmp_path)) == 2
    assert "--context = 'third'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no kubeconfig, and this is not a pod of a cluster"),
        ("clusters: [", "KUBECONFIG"),
        ("", "KUBECONFIG"),
        ("hello", "KUBECONFIG"),
        ("apiVersion: v1\nkind: Config\n", "KUBECONFIG"),
    ],
    ids=["none", "no-yaml", "empty", "text", "no-context"],
)
def test_without_a_kubeconfig_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if content is not None:
        (tmp_path / "kubeconfig").write_text(content)
    assert submit(config(tmp_path)) == 2
    assert says in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")))
    assert submit(config(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "the Kubernetes API = 'http://127.0.0.1:9'" in said and "Connection refused" in said


def test_in_a_pod_it_is_the_pods_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes import client
    from kubernetes.config import incluster_config

    for name in ("token", "ca.crt", "namespace"):
        (tmp_path / name).write_text("training\n" if name == "namespace" else name)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(kube_cluster, "_NAMESPACE_OF_POD", str(tmp_path / "namespace"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    settings = client.Configuration()
    assert kube_cluster._configure(settings, None) == (None, "training")
    assert settings.host == "https://10.0.0.1:443"


def test_without_the_client_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert submit(config(tmp_path)) == 2
    assert "pip install 'raytrainer[kubernetes]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        ["--address", "http://head:8265"],
        ["--working-dir", "."],
        ["--env", "A=b"],
        ["--uv"],
        ["--requirements", "r.txt"],
    ],
    ids=lambda option: option[0],
)
def test_an_option_of_rays_job_server_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert submit(*option, config(tmp_path)) == 2
    assert f"{option[0]} = " in capsys.readouterr().err


def test_a_command_and_options_without_kube_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--", "python", "train.py") == 2
    assert "on Kubernetes a config is run" in capsys.readouterr().err
    assert main(["submit", "--context", "here", "run.yaml"]) == 2
    assert "--context = 'here'" in capsys.readouterr().err


def test_a_job_that_nobody_takes_up_is_explained(
    server: tuple[ApiServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--no-wait", config(tmp_path)) == 0
    event = {"metadata": {"name": "e"}, "message": "The RayJob spec is invalid: backoffLimit"}
    monkeypatch.setattr(kube_follow, "_SILENCE_S", 0.0)
    with kube_cluster.connected(None, None) as cluster:
        follower = kube_follow._Follower(cluster, "dates")
        assert follower.look() is None
        assert "does KubeRay's operator run" in capsys.readouterr().err
        server[0].objects["v1/events", "team", "e"] = event
        assert follower.look() is None
    assert "nobody has taken it up: The RayJob spec is invalid" in capsys.readouterr().err
