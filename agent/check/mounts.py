"""On which file system a path lies: read from /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")

MEMORY = ("tmpfs", "ramfs")
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs", "ceph")
OVERLAY = ("overlay", "aufs")
WITHOUT_JOURNAL = ("vfat", "exfat", "ext2", "msdos")


class Mount(NamedTuple):
    """A mounted file system."""

    point: str
    kind: str


def read_mountinfo(file: Path = MOUNTINFO) -> str:
    """Return the text of mountinfo, names in it as Python has those of files; "" where /proc is hidden."""
    try:
        return os.fsdecode(file.read_bytes())
    except OSError:
        return ""


def mount_of(path: Path, mountinfo: str) -> Mount:
    """Return the mount of the absolute `path` by the text of mountinfo (proc(5)); kind "" when it has none."""
    best = Mount("", "")
    for line in mountinfo.split("\n"):
        fields, _, rest = line.partition(" - ")
        words = fields.split(" ")
        if len(words) < 5 or not rest:
            continue
        point = _unescaped(words[4])
        if path.is_relative_to(point) and len(point) >= len(best.point):  # the later one lies on top
            best = Mount(point, rest.split(" ")[0])
    return best


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
