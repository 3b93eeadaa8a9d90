"""On which file system a path lies: read from /proc/self/mountinfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = ("tmpfs", "ramfs")
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs", "ceph")
OVERLAY = ("overlay", "aufs")
WITHOUT_JOURNAL = ("vfat", "exfat", "ext2", "msdos")


class Mount(NamedTuple):
    """A mounted file system."""

    point: str
    kind: str


def mount_of(path: Path, mountinfo: str) -> Mount:
    """Return the mount of the absolute `path` by the text of mountinfo (proc(5)); kind "" when it has none."""
    best = Mount("", "")
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        if len(words) < 5 or not rest:
            continue
        point = _unescaped(words[4])
        if path.is_relative_to(point) and len(point) >= len(best.point):  # the later one lies on top
            best = Mount(point, rest.split()[0])
    return best


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
