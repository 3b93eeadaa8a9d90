"""The device files that the configured cameras need, and whether this user may use them."""

from __future__ import annotations

import grp
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.check.finding import Finding, fault, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.check.target import CameraTarget

WHAT = "devices"
LIMIT_S = 5.0
_VCIO = "dev/vcio"
"""The mailbox of the Pi's firmware: throttling and under-voltage are read there."""
_VIDEO_MAJOR = 81
"""Of the character devices of Video4Linux: devices.txt of the kernel."""
_LOCAL = ("v4l2", "picamera", "csi", "gstreamer")
_NEEDED = {"picamera": ("dev/media*", "dev/dma_heap/*"), "csi": ("dev/video*",)}
"""What must be there, by glob below /; any file of a glob will do."""
_WANTED = {"csi": ("dev/dri/renderD*", "dev/nvmap")}
"""What must be usable where it is there: the Jetson's camera stack."""
_HARDWARE = {
    r"nv\w*": ("dev/dri/renderD*", "dev/nvmap"),
    r"vaapi\w+|va(?:h26[45]|vp[89]|av1|jpeg|mpeg2)\w*": ("dev/dri/renderD*",),
    r"v4l2\w+dec": ("dev/video*",),
}
"""What the elements of a GStreamer pipeline that use hardware open, by their names."""


def check(cameras: Sequence[CameraTarget], *, root: Path = Path("/")) -> list[Finding]:
    """Return the rows of what `cameras` need below `root`; one that says so when that is nothing."""
    rows = [row for camera in cameras for row in _camera(camera, root)]
    vcio = root / _VCIO
    if vcio.exists() and not _usable(vcio):
        text = f"{vcio}: throttling and under-voltage of the board can't be seen"
        rows.append(warning(WHAT, text, fix=_join(vcio)))
    if not rows:
        return [skipped(WHAT, "no camera is attached to this device itself")]
    if os.geteuid() == 0:
        fix = "run it as the service's user: sudo -u edge-agent edge-agent check"
        rows.append(warning(WHAT, "this check runs as root, which may open everything", fix=fix))
    return rows


def _camera(camera: CameraTarget, root: Path) -> list[Finding]:
    kind = re.match(r"([a-z0-9]+):", camera.url)
    scheme = kind[1] if kind else ""
    if scheme not in _LOCAL:
        return []
    what = f"{camera.what} device"
    if scheme == "v4l2":
        return [_file(what, root / urlsplit(camera.url).path.lstrip("/"))]
    if scheme == "gstreamer":
        return _pipeline(what, camera.url.partition(":")[2], root)
    missing = [pattern for pattern in _NEEDED.get(scheme, ()) if not any(root.glob(pattern))]
    if missing:
        fix = "check the ribbon cable; `edge-agent cameras` lists what is attached"
        return [fault(what, f"no /{' and no /'.join(missing)}", fix=fix)]
    rows = []
    for pattern in (*_NEEDED.get(scheme, ()), *_WANTED.get(scheme, ())):
        found = sorted(root.glob(pattern))
        if found and not any(map(_usable, found)):
            rows.append(fault(what, f"{found[0]}: not permitted", fix=_join(found[0])))
    return rows or [ok(what, "its device files can be opened")]


def _pipeline(what: str, pipeline: str, root: Path) -> list[Finding]:
    """Warn of what a hardware element of `pipeline` may not open; others need no device that we know of."""
    rows = []
    for names, patterns in _HARDWARE.items():
        element = re.search(rf"(?:^|!)\s*({names})(?=\s|!|$)", pipeline)
        for found in (sorted(root.glob(pattern)) for pattern in (patterns if element else ())):
            if element and found and not any(map(_usable, found)):
                text = f"{found[0]}: not permitted; {element[1]} needs it"
                rows.append(warning(what, text, fix=_join(found[0])))
    return rows


def _file(what: str, path: Path) -> Finding:
    if not path.exists():
        seen = ", ".join(str(p) for p in sorted(path.parent.glob("video*"))) or "none"
        return fault(what, f"no {path}; attached: {seen}", fix="plug the camera in, or correct the number")
    if not _is_video(path.stat()):
        fix = "give a /dev/video*; `edge-agent cameras` lists what is attached"
        return fault(what, f"{path} is no video device", fix=fix)
    if not _usable(path):
        return fault(what, f"{path}: not permitted", fix=_join(path))
    return ok(what, f"{path} can be opened")


def _is_video(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _VIDEO_MAJOR


def _usable(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _join(path: Path) -> str:
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        group = "video"
    if group == "root":
        return f"make {path} usable for group video by a udev rule"
    return f"add the agent's user to group {group}: sudo usermod -aG {group} edge-agent"
