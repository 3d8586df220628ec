"""Hosts on a network that is there for one test: namespaces with an address, a name and processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

# Everything of a namespace ends with its first process, which ends with unshare, and that with this program.
_UNSHARE = ["setpriv", "--pdeathsig", "KILL", "unshare"]
_UNSHARE += ["--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
_ENTER = ["--net", "--uts", "--mount", "--pid"]
# As Debian writes it: a host's own name is an address that no other host can reach. $1 is the name, the rest is hidden.
_SETTLE = """
hostname "$1"
mount -t tmpfs none /tmp/ray
mount -t tmpfs none /dev/shm
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$1" > /dev/shm/hosts
mount --bind /dev/shm/hosts /etc/hosts
ip link set lo up
shift
for folder; do mount -t tmpfs none "$folder"; done
echo settled
exec sleep infinity
"""


def reason_against() -> str | None:
    """Say why no hosts can be made here; None where they can."""
    command = [*_UNSHARE, "sh", "-ec", "ip link add left type veth peer name right; ip link add switch type bridge"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        return f"{missing.filename} is not installed"
    return f"namespaces cannot be made: {done.stderr.strip()}" if done.returncode else None


class Host:
    """A machine, as far as processes in it can tell.

    Args:
        name: its own.
        address: where the others reach it.
        hidden: folders of this machine that it does not have.
    """

    def __init__(self, name: str, address: str, hidden: Sequence[Path] = ()) -> None:
        self.name, self.address = name, address
        os.makedirs("/tmp/ray", exist_ok=True)
        command = [*_UNSHARE, "sh", "-ec", _SETTLE, "sh", name, *map(str, hidden)]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None and self._holder.stdout.readline() == "settled\n"
        (init,) = psutil.Process(self._holder.pid).children()
        self.pid = init.pid

    def enter(self, *command: str, cwd: Path | None = None) -> list[str]:
        """Return the command line that runs a command on this host."""
        return ["nsenter", "--target", str(self.pid), *_ENTER, f"--wdns={cwd or '/'}", *command]

    def start(self, *command: str, cwd: Path | None = None, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(self.enter(*command, cwd=cwd), text=True, **options)

    def run(self, *command: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.enter(*command, cwd=cwd), text=True, **options)

    def end(self) -> None:
        """End every process on it, and with them the host."""
        self._holder.kill()
        self._holder.wait()


class Network:
    """A switch with hosts on it.

    Args:
        hidden: folders of this machine that only the first host has.
    """

    PORT = 6379

    def __init__(self, *hidden: Path) -> None:
        self._hidden = hidden
        self.hosts: list[Host] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._switch = Host("switch", "")
        self._ip("link", "add", "name", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for host in [*self.hosts, self._switch]:
            host.end()
        for process in self._processes:
            process.wait()

    def add(self, name: str) -> Host:
        """Connect one more host."""
        number = len(self.hosts) + 1
        host = Host(name, f"10.77.0.{number}", self._hidden if self.hosts else ())
        self.hosts.append(host)
        self._ip("link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self._ip("link", "set", name, "master", "bridge", "up")
        # There is a way out, which leads nowhere: Ray looks for the interface that has it.
        route = "ip route add default dev eth0"
        up = f"ip address add {host.address}/24 dev eth0 && ip link set eth0 up && {route}"
        host.run("sh", "-ec", up, check=True)
        return host

    def cut(self, host: Host) -> None:
        """Pull a host's cable; nobody is told, and its processes run on."""
        self._ip("link", "set", host.name, "down")

    def ray(self, host: Host, *options: str, log: Path, **environment: str) -> None:
        """Start Ray on a host: the head on the first one, which has no slots."""
        first = self.hosts[0]
        if host is first:
            place = ["--head", f"--port={self.PORT}", "--num-cpus=0", "--include-dashboard=false"]
        else:
            place = [f"--address={self.address}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place]
        command += [f"--node-ip-address={host.address}", *options]
        with log.open("w") as file:
            started = host.start(*command, env=self.environment(**environment), stdout=file, stderr=file)
        self._processes.append(started)

    def until_nodes(self, count: int) -> None:
        """Return when Ray has so many nodes alive."""
        code = f"""
import ray
from tests.waiting import until
ray.init(log_to_driver=False, logging_level="ERROR")
until(lambda: sum(node["Alive"] for node in ray.nodes()) == {count}, "{count} nodes", seconds=300)
"""
        command = [sys.executable, "-c", code]
        environment = self.environment(RAY_ADDRESS=self.address)
        done = self.hosts[0].run(*command, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr

    @property
    def address(self) -> str:
        """Ray's, for programs on the hosts."""
        return f"{self.hosts[0].address}:{self.PORT}"

    def environment(self, **more: str) -> dict[str, str]:
        """Return this process's environment, without what it says of Ray and of a token for it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ours = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        return {**kept, **ours, "PYTHONPATH": str(Path(__file__).parents[2]), **more}

    def _ip(self, *arguments: str) -> None:
        # In the namespace of the switch, but with this one's processes, among which the hosts are.
        command = ["nsenter", "--target", str(self._switch.pid), "--net", "ip", *arguments]
        subprocess.run(command, check=True)
