"""How many CPUs there are to use: affinity, and the quotas of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.hardware import default_threads, usable_cpus

ALLOWED = len(os.sched_getaffinity(0))


def tree(root: Path, group: str, **quotas: str) -> Path:
    """Make a /proc and /sys with `cpu.max` of cgroups: their names have _ for /, `top` is the root."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"1:name=systemd:/x\n0::{group}\n")
    for name, text in quotas.items():
        place = root / "sys/fs/cgroup" / ("" if name == "top" else name.replace("_", "/"))
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("group", "quotas", "expected"),
    [
        ("/", {}, ALLOWED),
        ("/", {"top": "max 100000"}, ALLOWED),
        ("/a/b", {"a_b": "100000 100000"}, 1),
        ("/a/b", {"a": "150000 100000", "a_b": "max 100000"}, 1),
        ("/a/b", {"top": "99900000 100000", "a": "100000 100000", "a_b": "99900000 100000"}, 1),
        ("/a/b", {"a_b": "20000 100000"}, 1),
        ("/a/b", {"a_b": "99900000 100000"}, ALLOWED),
        ("/a/b", {"c": "100000 100000"}, ALLOWED),
        ("/../..", {"top": "100000 100000"}, 1),
        ("/", {"top": "garbage"}, ALLOWED),
        ("/", {"top": "5 0"}, ALLOWED),
    ],
)
def test_the_narrowest_quota_counts(
    tmp_path: Path, group: str, quotas: dict[str, str], expected: int
) -> None:
    """Whole CPUs of the narrowest quota on the way up, at least 1, never more than affinity allows."""
    assert usable_cpus(tree(tmp_path, group, **quotas)) == expected


def test_affinity_is_respected() -> None:
    """A process that is bound to one CPU has one to use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cpus() == 1
        assert default_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 1), (4, 3), (12, 11)])
def test_one_cpu_is_left_for_decoding(cpus: int, threads: int) -> None:
    """All but one, at least one."""
    assert default_threads(cpus) == threads
