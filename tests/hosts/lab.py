"""Booted hosts on one bridge, each with sshd, and a controller beside them, all in network namespaces of this machine.

`python -m tests.hosts.lab --hosts 3` starts it for a person, with a broker as in ansible/mosquitto, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.brokers import wait_for
from tests.hosts.base import USER, kept, make_base
from tests.hosts.host import Host
from tests.hosts.tlsbroker import NAME, TlsBroker, tls_broker
from tests.hosts.undoing import call, remove_network, undoing
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.hosts.base import Base

CONTROLLER = "10.77.0.1"
_RUN = """\
#!/bin/sh
# Run a command in the controller's network, with what Ansible needs of this lab: {folder}/run COMMAND...
exec ip netns exec {network} env {settings} "$@"
"""


@dataclass(frozen=True)
class Lab:
    """`hosts` are on; `network` is the controller's namespace; all are in the inventory's group `edge_agents`."""

    folder: Path
    network: str
    hosts: tuple[Host, ...]

    @property
    def inventory(self) -> Path:
        """Ansible's inventory of the hosts."""
        return self.folder / "inventory.ini"

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables that keep what Ansible leaves in this lab: other labs have the same addresses."""
        return {
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "ANSIBLE_INVENTORY": str(self.inventory),
        }

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program of this machine in the controller's network."""
        return subprocess.Popen([str(self.folder / "run"), *command], text=True, **options)

    def run(
        self, *command: str, timeout_s: float = HANGS_S, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in the controller's network."""
        return subprocess.run(
            [str(self.folder / "run"), *command],
            capture_output=True, text=True, timeout=timeout_s, check=False, **options,
        )  # fmt: skip

    def ssh(self, host: Host, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host, over SSH, as its user."""
        return self.run("ssh", *self._ssh_options(), f"{USER}@{self.address(host)}", command)

    def answers(self, host: Host) -> bool:
        """Tell whether the host can be reached by SSH."""
        return self.ssh(host, "true").returncode == 0

    def address(self, host: Host) -> str:
        """Return the host's address on the bridge."""
        return _address(self.hosts.index(host))

    def link(self, host: Host, state: str) -> None:
        """Set the host's network cable `up` or `down`."""
        call("ip", "-n", self.network, "link", "set", f"v{self.hosts.index(host)}", state)

    def _ssh_options(self) -> list[str]:
        known = f"UserKnownHostsFile={self.folder}/known_hosts"
        return [
            "-i",
            str(self.folder / "id"),
            "-o",
            known,
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "BatchMode=yes",
        ]

    def prepare(self) -> None:
        """Make the key that opens the hosts, and write what SSH, Ansible and a person need."""
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "id"))
        (self.folder / "cp").mkdir(mode=0o700)
        settings = shlex.join(f"{key}={value}" for key, value in self.settings.items())
        script = _RUN.format(folder=self.folder, network=self.network, settings=settings)
        (self.folder / "run").write_text(script)
        (self.folder / "run").chmod(0o755)
        lines = [f"{host.name} ansible_host={self.address(host)}" for host in self.hosts]
        options = {
            "ansible_user": USER,
            "ansible_ssh_private_key_file": self.folder / "id",
            "ansible_ssh_common_args": f"'{shlex.join(self._ssh_options()[2:])}'",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        lines = [
            "[edge_agents]",
            *lines,
            "",
            "[edge_agents:vars]",
            *(f"{key}={value}" for key, value in options.items()),
        ]
        self.inventory.write_text("\n".join(lines) + "\n")

    def connect(self, host: Host) -> None:
        """Lay the host's cable to the bridge, and let the controller in by its key."""
        number = self.hosts.index(host)
        call(
            *("ip", "link", "add", f"v{number}", "netns", self.network),
            *("type", "veth", "peer", "name", "eth0", "netns", host.network),
        )
        call("ip", "-n", self.network, "link", "set", f"v{number}", "master", "br0", "up")
        call("ip", "-n", host.network, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        call("ip", "-n", host.network, "link", "set", "eth0", "up")
        with (host.root / "etc/hosts").open("a") as hosts:
            hosts.write(f"{CONTROLLER} {NAME}\n")
        home = host.root / "home" / USER
        (home / ".ssh").mkdir(mode=0o700)
        (home / ".ssh/authorized_keys").write_text((self.folder / "id.pub").read_text())
        for path in (home / ".ssh", home / ".ssh/authorized_keys"):
            os.chown(path, home.stat().st_uid, home.stat().st_gid)
        key = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        with (self.folder / "known_hosts").open("a") as known:
            known.write(f"{self.address(host)} {key}")


@contextlib.contextmanager
def lab(base: Base, count: int) -> Iterator[Lab]:
    """Boot `count` hosts, h1 and so on, on which nothing was done yet; at the end all of it is removed."""
    network = f"edge-{os.getpid()}-ctl"
    with undoing() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-agent-lab-")))
        names = [f"h{number + 1}" for number in range(count)]
        hosts = tuple(Host(name, folder / name, base, with_agent=False) for name in names)
        made = Lab(folder, network, hosts)
        stack.callback(remove_network, network)
        call("ip", "netns", "add", network)
        call("ip", "-n", network, "link", "set", "lo", "up")
        call("ip", "-n", network, "link", "add", "br0", "type", "bridge")
        call("ip", "-n", network, "addr", "add", f"{CONTROLLER}/24", "dev", "br0")
        call("ip", "-n", network, "link", "set", "br0", "up")
        made.prepare()
        for host in hosts:
            stack.enter_context(host.plugged_in())
            made.connect(host)
            host.switch_on()
        for host in hosts:
            host.wait_booted()
            wait_for(partial(made.answers, host), HANGS_S, f"{host.name} by SSH")
        yield made


def _address(number: int) -> str:
    return f"10.77.0.{11 + number}"


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Start hosts and broker, tell where all is, and wait for Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--hosts", type=int, default=3)
    count = parser.parse_args(arguments).hosts
    signal.signal(signal.SIGTERM, _interrupted)
    with contextlib.suppress(KeyboardInterrupt), lab(make_base(kept()), count) as made:
        users = [*(host.name for host in made.hosts), "monitor", "operator"]
        with tls_broker(made.folder / "broker", made.start, CONTROLLER, users) as broker:
            print(_told(made, broker), flush=True)
            threading.Event().wait()
    return 0


def _told(made: Lab, broker: TlsBroker) -> str:
    ssh = shlex.join(["ssh", *made._ssh_options(), f"{USER}@{made.address(made.hosts[0])}"])
    return (
        f"run in the controller's network:  {made.folder}/run COMMAND...\n"
        f"inventory (group edge_agents):    {made.inventory}\n"
        f"for example:                      {made.folder}/run ansible edge_agents -m ping\n"
        f"ssh:                              {made.folder}/run {ssh}\n"
        f"broker:                           {NAME}:{broker.port}, TLS; {broker.folder}/ca.pem, "
        "<device>.pem, <device>.key, monitor.pem, operator.pem\n"
        f"power cut of a host:              kill -9 its PID 1: ip netns pids {made.hosts[0].network} | head -1\n"
        "a clip on every host:             /srv/lab/long.mp4 (20 min)"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
