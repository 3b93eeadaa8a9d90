"""Which device files the service may open besides cameras by V4L2: read from /dev, told in a drop-in of the unit."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.hardware.files import entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.hardware import Board

_NVIDIA = re.compile(r"nv(?!me|ram)[\w-]*|host1x-fence")
"""Device files of NVIDIA's GPUs and of the Jetson's engines, not those of NVMe disks."""
_ARGUS = "tmp/argus_socket"
"""Where the Jetson's camera daemon listens."""
_MAX_DEPTH = 3
_PI = """\
# Raspberry Pi: cameras by libcamera, and the firmware's mailbox (throttling, under-voltage).
DeviceAllow=char-media rw
DeviceAllow=char-dma_heap rw
DeviceAllow=/dev/vcio rw
"""
_JIT = """\
# The GPU's driver makes code at run time.
MemoryDenyWriteExecute=no
"""
_CAMERA_DAEMON = """\
# The camera daemon's socket is in /tmp. A private one would hide it: exposure 1.8 instead of 1.6.
PrivateTmp=no
ReadWritePaths=/tmp
"""


@dataclass(frozen=True, slots=True)
class Devices:
    """Paths of character devices for inference on a GPU, and whether the Jetson's camera daemon is there."""

    nvidia: tuple[str, ...] = ()
    render: tuple[str, ...] = ()
    argus: bool = False


def read_devices(root: Path) -> Devices:
    """Return what is below `root`/dev. Never raises for what it meets."""
    dev = root / "dev"
    nvidia = (
        path for entry in entries(dev) if _NVIDIA.fullmatch(entry.name) for path in _nodes(entry, _MAX_DEPTH)
    )
    render = (path for path in entries(dev / "dri") if path.name.startswith("renderD"))
    return Devices(
        nvidia=tuple(f"/{path.relative_to(root)}" for path in nvidia if _is_device(path)),
        render=tuple(f"/{path.relative_to(root)}" for path in render if _is_device(path)),
        argus=(root / _ARGUS).exists(),
    )


def drop_in(board: Board, devices: Devices) -> str:
    """Return the drop-in of the unit for this board; "" when it needs none. Pure."""
    unit = "[Unit]\nWants=nvargus-daemon.service\nAfter=nvargus-daemon.service\n\n" if devices.argus else ""
    allowed = "".join(f"DeviceAllow={path} rw\n" for path in (*devices.nvidia, *devices.render))
    parts = [
        _PI if board.kind == "raspberry-pi" else "",
        f"# What `edge-agent system install` found in /dev; run it again after a change.\n{allowed}"
        if allowed
        else "",
        _JIT if devices.nvidia else "",
        _CAMERA_DAEMON if devices.argus else "",
    ]
    service = "\n".join(filter(None, parts))
    return f"{unit}[Service]\n{service}" if service else ""


def _nodes(path: Path, depth: int) -> Iterator[Path]:
    """Yield `path`, or what lies in it when it is a directory, such as /dev/nvgpu/igpu0/ctrl."""
    if depth and path.is_dir() and not path.is_symlink():
        for entry in entries(path):
            yield from _nodes(entry, depth - 1)
    else:
        yield path


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.lstat().st_mode)
    except OSError:
        return False
