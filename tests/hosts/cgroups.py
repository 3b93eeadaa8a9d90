"""The control groups of a host: its own below each mounted hierarchy."""

from __future__ import annotations

import contextlib
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Return the mounts of cgroup v1, and the unified one beside them; none on a system that has v2 alone."""
    return [
        part for part in sorted(_CGROUPS.iterdir()) if (part / "cgroup.procs").exists() and part.is_mount()
    ]


def make_group(group: Path) -> None:
    """Make the group; in a cpuset, with the processors of its parent."""
    group.mkdir()
    if (group / "cpuset.cpus").exists() and (group.parent / "cpuset.cpus").exists():
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text((group.parent / name).read_text())
        if (group / "cgroup.clone_children").exists():
            (group / "cgroup.clone_children").write_text("1")


def remove_group(group: Path) -> None:
    """Remove the group and those below it, which must be empty."""
    for folder in sorted(group.rglob("*/"), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
