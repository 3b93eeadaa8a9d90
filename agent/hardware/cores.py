"""How many CPUs this process may use: what affinity and cgroups leave of those that are there."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from agent.hardware.files import read_text, whole


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use, at least 1.

    That is its affinity (taskset, cpusets, CPUAffinity=), and no more than the whole CPUs of the narrowest
    `cpu.max` of its cgroup (v2) and the ones above (containers, CPUQuota=). `root` is where /proc and /sys are.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    quota = _cpu_quota(root)
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def default_threads(cpus: int | None = None) -> int:
    """Return how many threads an engine should get: all of `cpus` (None: the usable ones) but one, at least 1.

    The one that is left decodes; with every core taken by another process, medians collapse.
    """
    return max(1, (usable_cpus() if cpus is None else cpus) - 1)


def _cpu_quota(root: Path) -> float | None:
    """Return the narrowest quota, in CPUs, from this process's cgroup upwards; None for none."""
    groups = (read_text(root / "proc/self/cgroup") or "").splitlines()
    unified = next((line[3:] for line in groups if line.startswith("0::/")), None)
    if unified is None:
        return None
    base = root / "sys/fs/cgroup"
    parts = [part for part in PurePosixPath(unified).parts[1:] if part != ".."]
    levels = [base.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    quotas = [_quota(read_text(level / "cpu.max") or "") for level in levels]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(text: str) -> float | None:
    """Return the CPUs of "QUOTA PERIOD" in microseconds; None for "max"."""
    quota, _, period = text.strip().partition(" ")
    quota_us, period_us = whole(quota), whole(period)
    return quota_us / period_us if quota_us and period_us else None
