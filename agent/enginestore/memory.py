"""The memory of a build: how much it may take, and when it must be ended before the kernel ends something else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agent.hardware.files import read_int, read_text

_MIB = 1 << 20
_LEAST_FREE_BYTES, _LEAST_FREE_SHARE = 192 * _MIB, 0.05
"""What must stay available to all others, whichever is more: below it the kernel begins to kill."""
_WORKSPACE_SHARE, _LEAST_WORKSPACE_BYTES, _MOST_WORKSPACE_BYTES = 0.25, 64 * _MIB, 1024 * _MIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """A build ends when its process holds more than `most_rss_bytes`, or less than `least_free_bytes` are left.

    Both are watched: what a Jetson's GPU takes of the common memory counts for no process.
    """

    most_rss_bytes: int
    least_free_bytes: int

    def objection(self, rss_bytes: int, free_bytes: int) -> str | None:
        """Return why the build can't go on, or None."""
        if rss_bytes > self.most_rss_bytes:
            return f"it took {rss_bytes // _MIB} MiB, and {self.most_rss_bytes // _MIB} were to be had"
        if free_bytes < self.least_free_bytes:
            return (
                f"{free_bytes // _MIB} MiB are left for all, and {self.least_free_bytes // _MIB} are needed"
            )
        return None


def bounds_for(total_bytes: int, free_bytes: int) -> Bounds:
    """Return the bounds of a build on a device that has so much memory, and so much of it available."""
    least = max(_LEAST_FREE_BYTES, int(total_bytes * _LEAST_FREE_SHARE))
    return Bounds(max(0, free_bytes - least), least)


def workspace_for(free_bytes: int) -> int:
    """Return how much TensorRT may use to try out its kernels: a quarter of what is available, within bounds."""
    return min(max(int(free_bytes * _WORKSPACE_SHARE), _LEAST_WORKSPACE_BYTES), _MOST_WORKSPACE_BYTES)


def read_rss_bytes(pid: int) -> int:
    """Return the resident memory of process `pid`, 0 when it has ended."""
    return _kib(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024


def read_system_bytes() -> tuple[int, int]:
    """Return MemTotal, and what may still be taken: MemAvailable, or less where the service has a limit."""
    meminfo = Path("/proc/meminfo")
    free_bytes = _kib(meminfo, "MemAvailable:") * 1024
    _, _, group = (read_text(Path("/proc/self/cgroup")) or "").strip().rpartition("0::/")
    left_bytes = headroom(Path("/sys/fs/cgroup") / group)
    return _kib(meminfo, "MemTotal:") * 1024, free_bytes if left_bytes is None else min(
        free_bytes, left_bytes
    )


def headroom(group: Path) -> int | None:
    """Return what the control group (v2) in `group` may still take, None without a limit.

    Files that are cached are not counted: the kernel gives them up first.
    """
    limits = [read_int(group / name) for name in ("memory.high", "memory.max")]  # "max" is no number
    used_bytes = read_int(group / "memory.current")
    limit_bytes = min((limit for limit in limits if limit is not None), default=None)
    if limit_bytes is None or used_bytes is None:
        return None
    cached = re.search(r"^inactive_file ([0-9]{1,15})$", read_text(group / "memory.stat") or "", re.MULTILINE)
    return max(0, limit_bytes - used_bytes + (int(cached[1]) if cached else 0))


def _kib(path: Path, name: str) -> int:
    lines = (read_text(path) or "").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
