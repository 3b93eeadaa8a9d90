"""The programs of systemd that take an installed service on, and let it go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from agent.errors import CannotCreate, InputMissing
from agent.system.plan import CONF, UNIT, USER

_RUNS = Path("/run/systemd/system")
"""There while systemd is the init of this system: sd_booted(3)."""
_TIMEOUT_S = 60.0


def check_programs() -> None:
    """Raise InputMissing on a system without systemd's programs."""
    for name in ("systemd-sysusers", "systemd-tmpfiles", "systemctl"):
        if shutil.which(name) is None:
            raise InputMissing(
                f"no {name} here", fix="the service needs systemd; without it use `edge-agent run`"
            )


def check_root(root: Path) -> None:
    """Raise InputMissing where `root` is not that of a system with systemd."""
    if not (root / "usr/lib/systemd").is_dir():
        fix = "give the root of a system that has systemd with --root: is the card mounted?"
        raise InputMissing("no systemd there", seen=root / "usr/lib/systemd", fix=fix)


def take_on(root: Path) -> None:
    """Make users, groups and folders, and have a running systemd read the unit. Raises CannotCreate."""
    _run("systemd-sysusers", *_of(root), CONF)
    _run("systemd-tmpfiles", *_of(root), "--create", CONF)
    read_units(root)


def read_units(root: Path) -> None:
    """Have a running systemd read its units. Raises CannotCreate."""
    if _is_live(root):
        _run("systemctl", "daemon-reload")


def stop(root: Path) -> None:
    """Disable the service, and where it runs stop it. Raises CannotCreate."""
    if _is_live(root):
        _run("systemctl", "disable", "--now", UNIT)
    else:
        _run("systemctl", *_of(root), "disable", UNIT)


def remove_user(root: Path) -> None:
    """Remove the service's user and its group. Raises CannotCreate."""
    prefix = [] if root == Path("/") else ["--prefix", str(root)]
    _run("userdel", *prefix, USER)


def _is_live(root: Path) -> bool:
    return root == Path("/") and _RUNS.is_dir()


def _of(root: Path) -> list[str]:
    return [] if root == Path("/") else [f"--root={root}"]


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCreate(command[0], seen=error) from error
    if done.returncode:
        raise CannotCreate(" ".join(command), seen=" ".join(done.stderr.split())[-300:] or done.returncode)
