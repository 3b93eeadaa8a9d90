"""One host: a booted systemd in a container, with its own network, processes and control groups."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.brokers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.hosts.base import Base

_CGROUPS = Path("/sys/fs/cgroup")
_BOOT_S = 60.0
_POWEROFF_S = 20.0
_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=dumb",
    "SYSTEMD_COLORS=0",
)


class Host:
    """A host that may be booted more than once; its disk is a layer over the base."""

    def __init__(self, name: str, folder: Path, base: Base) -> None:
        self.name, self.root = name, folder / "root"
        self.network = f"edge-{os.getpid()}-{name}"
        self._folder, self._base = folder, base
        self._groups = [part / self.network for part in _hierarchies()]

    def boot(self) -> None:
        """Switch it on, and wait until systemd has started all it starts."""
        lab = f"--bind-ro={self._base.lab}:/srv/lab"
        command = [
            "systemd-nspawn", "-q", f"--directory={self.root}", f"--machine={self.name}", f"--hostname={self.name}",
            "--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{self.network}", "--capability=all",
            "--system-call-filter=bpf", "--resolv-conf=off", "--console=pipe", "--kill-signal=SIGRTMIN+3", lab,
            "/sbin/lab-init",
        ]  # fmt: skip
        join = 'for group do [ "$group" = -- ] && break; echo $$ > "$group/cgroup.procs"; shift; done; shift; exec "$@"'
        with (self._folder / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", join, "sh", *map(str, self._groups), "--", *command],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        wait_for(self._booted, _BOOT_S, f"{self.name} to boot: see {self._folder}/console.log")

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root."""
        done = subprocess.run(
            [*self._enter(), *command], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def show(self, unit: str) -> dict[str, str]:
        """Return the unit's properties."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit).stdout.splitlines())

    def wait_for(
        self, unit: str, condition: Callable[[dict[str, str]], bool], seconds: float, what: str
    ) -> float:
        """Wait until the unit's properties are as they should be; return how long it took."""
        begin_s = time.monotonic()
        try:
            wait_for(lambda: condition(self.show(unit)), seconds, what)
        except AssertionError:
            print(self.run("systemctl", "status", "--no-pager", "-n40", unit, check=False).stdout)
            raise
        return time.monotonic() - begin_s

    def journal(self, unit: str) -> str:
        """Return what the unit has written."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def beside(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Start a program of this machine in the host's network."""
        return subprocess.Popen(["ip", "netns", "exec", self.network, *command], text=True, **options)  # type: ignore[call-overload,no-any-return]

    def poweroff(self) -> None:
        """Shut it down in order, or if it does not end, at once."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("systemctl", "poweroff", "--no-block", check=False)
            self._nspawn.wait(_POWEROFF_S)
        if self._nspawn.poll() is None:
            self.power_cut()

    def power_cut(self) -> None:
        """End all of it at once: what is not on disk is lost to it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader(), signal.SIGKILL)
        self._nspawn.kill()
        self._nspawn.wait()

    @contextlib.contextmanager
    def plugged_in(self) -> Iterator[None]:
        """Give it its disk, network and control groups for the `with` block, at whose end it is off."""
        layers = {name: self._folder / name for name in ("upper", "work", "root")}
        for folder in layers.values():
            folder.mkdir(parents=True)
        options = f"lowerdir={self._base.system},upperdir={layers['upper']},workdir={layers['work']}"
        with contextlib.ExitStack() as stack:
            _call("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))
            stack.callback(_call, "umount", "--lazy", str(self.root))
            _call("ip", "netns", "add", self.network)
            stack.callback(_call, "ip", "netns", "del", self.network)
            _call("ip", "-n", self.network, "link", "set", "lo", "up")
            for group in self._groups:
                _make_group(group)
                stack.callback(_remove_group, group)
            (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
            stack.callback(self._off)
            yield

    def _off(self) -> None:
        if getattr(self, "_nspawn", None) is not None and self._nspawn.poll() is None:
            self.poweroff()

    def _booted(self) -> bool:
        assert self._nspawn.poll() is None, (self._folder / "console.log").read_text()[-2000:]
        try:
            state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        except ProcessLookupError:
            return False
        return state in {"running", "degraded"}

    def _enter(self) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", "--target", str(self._leader()), *spaces, "--", "env", "-i", *_ENVIRONMENT]

    def _leader(self) -> int:
        """Return the process id of its systemd. Raises ProcessLookupError while it has none."""
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                return int(child)
        raise ProcessLookupError(self.name)


class Listener:
    """An independent subscriber in a host's network: `lines` of topic, blank, payload, in the order of arrival."""

    def __init__(self, host: Host) -> None:
        command = ("mosquitto_sub", "-V", "mqttv5", "-q", "1", "-t", "#", "-F", "%t %p", "-W", "900")
        self.lines: list[str] = []
        self._process = host.beside(*command, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def has(self, part: str, after: int = 0) -> bool:
        """Tell whether a topic that contains `part` was heard, from line `after` on."""
        return any(part in line.partition(" ")[0] for line in self.lines[after:])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)


@contextlib.contextmanager
def broker(host: Host, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run mosquitto on 127.0.0.1:1883 of the host's network."""
    config = folder / "mosquitto.conf"
    config.write_text("listener 1883 127.0.0.1\nuser root\nallow_anonymous true\n")
    process = host.beside(
        "mosquitto", "-c", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        answers = ("bash", "-c", "</dev/tcp/127.0.0.1/1883")
        wait_for(lambda: host.run(*answers, check=False).returncode == 0, 15, "the broker to listen")
        yield process
    finally:
        process.kill()
        process.wait()


def _hierarchies() -> list[Path]:
    """Return the mounts of cgroup v1, and the unified one beside them; none on a system that has v2 alone."""
    return [
        part for part in sorted(_CGROUPS.iterdir()) if (part / "cgroup.procs").exists() and part.is_mount()
    ]


def _make_group(group: Path) -> None:
    group.mkdir()
    if (group / "cpuset.cpus").exists() and (group.parent / "cpuset.cpus").exists():
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text((group.parent / name).read_text())
        if (group / "cgroup.clone_children").exists():
            (group / "cgroup.clone_children").write_text("1")


def _remove_group(group: Path) -> None:
    for folder in sorted(group.rglob("*/"), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
