"""One host: a booted systemd in a container, with its own network, processes and control groups."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.brokers import wait_for
from tests.hosts.cgroups import hierarchies, make_group, remove_group
from tests.hosts.undoing import call, held_back, remove_network, undoing, unmount
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.hosts.base import Base

_POWEROFF_S = 20.0
_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=dumb",
    "SYSTEMD_COLORS=0",
)


class Host:
    """A host that may be booted more than once; its disk is a layer over the base, with or without the agent's."""

    def __init__(self, name: str, folder: Path, base: Base, *, with_agent: bool = True) -> None:
        self.name, self.root = name, folder / "root"
        self.network = f"edge-{os.getpid()}-{name}"
        self._folder, self._base = folder, base
        self._layers = [base.agent, base.system] if with_agent else [base.system]
        self._groups = [part / self.network for part in hierarchies()]

    def boot(self) -> None:
        """Switch it on, and wait until systemd has started all it starts."""
        self.switch_on()
        self.wait_booted()

    def switch_on(self) -> None:
        """Switch it on."""
        lab = f"--bind-ro={self._base.lab}:/srv/lab"
        command = [
            "systemd-nspawn", "-q", f"--directory={self.root}", f"--machine={self.name}", f"--hostname={self.name}",
            "--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{self.network}", "--capability=all",
            "--system-call-filter=bpf", "--resolv-conf=off", "--console=pipe", "--kill-signal=SIGRTMIN+3", lab,
            "/sbin/lab-init",
        ]  # fmt: skip
        join = 'for group do [ "$group" = -- ] && break; echo $$ > "$group/cgroup.procs"; shift; done; shift; exec "$@"'
        with (self._folder / "console.log").open("ab") as console, held_back():
            self._nspawn = subprocess.Popen(
                ["sh", "-c", join, "sh", *map(str, self._groups), "--", *command],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip

    def wait_booted(self) -> None:
        """Wait until systemd has started all it starts."""
        wait_for(self._booted, HANGS_S, f"{self.name} to boot: see {self._folder}/console.log")

    def run(
        self, *command: str, check: bool = True, timeout_s: float = HANGS_S
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

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return getattr(self, "_nspawn", None) is not None and self._nspawn.poll() is None

    def poweroff(self) -> None:
        """Shut it down in order, or if it does not end, at once."""
        try:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                self.run("systemctl", "poweroff", "--no-block", check=False, timeout_s=_POWEROFF_S)
                self._nspawn.wait(_POWEROFF_S)
        finally:
            if self.is_on:
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
        lower = ":".join(map(str, self._layers))
        options = f"lowerdir={lower},upperdir={layers['upper']},workdir={layers['work']}"
        with undoing() as stack:
            stack.callback(unmount, self.root)
            call("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))
            stack.callback(remove_network, self.network)
            call("ip", "netns", "add", self.network)
            call("ip", "-n", self.network, "link", "set", "lo", "up")
            for group in self._groups:
                stack.callback(remove_group, group)
                make_group(group)
            (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
            stack.callback(self._off)
            yield

    def _off(self) -> None:
        if self.is_on:
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
