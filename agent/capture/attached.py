"""Which cameras are attached: V4L2 devices, Raspberry Pi cameras, a hint for the Jetson's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.capture import picamera, v4l2, videodev
from agent.errors import AgentError
from agent.hardware.files import entries, listed, read_line, read_text

if TYPE_CHECKING:
    from pathlib import Path

NOT_CAMERAS = ("bcm2835-isp", "bcm2835-codec", "pispbe", "rpi-hevc-dec", "rpivid")
"""Drivers of a Raspberry Pi whose devices capture what a program gave them."""
USUAL_PX, USUAL_HZ, SLOW_HZ = 1280 * 720, 30.0, 15.0
"""What is proposed: the largest size up to this that is not slower than SLOW_HZ, at USUAL_HZ at most."""
JETSON = "nvidia,tegra"


@dataclass(frozen=True, slots=True)
class Attached:
    """A camera: `source` is what goes into the configuration, "" when it can't be used, and `problem` says why."""

    kind: str
    name: str
    device: str
    source: str
    modes: tuple[videodev.Mode, ...] = ()
    problem: str = ""


def find(root: Path) -> list[Attached]:
    """Return the cameras of the system whose files are under `root`. No exceptions: problems are told."""
    return [*find_v4l2(root), *find_picamera(), *find_csi(root)]


def find_v4l2(root: Path) -> list[Attached]:
    """Return the V4L2 devices that capture pictures, in the order of their numbers."""
    by_id = _stable_names(root)
    found = []
    for path in listed(root / "sys/class/video4linux", "video"):
        name, title = path.name, read_line(path / "name") or path.name
        camera = _v4l2(root / "dev" / name, title, by_id.get(name, f"/dev/{name}"))
        if camera is not None:
            found.append(camera)
    return found


def find_picamera() -> list[Attached]:
    """Return the cameras that Picamera2 sees; none where it is not installed."""
    try:
        seen: list[dict[str, Any]] = picamera.cameras(picamera.load())
    except (AgentError, RuntimeError, OSError):
        return []
    return [
        Attached("picamera", str(camera.get("Model", "?")), str(camera.get("Id", "")), f"picamera:{number}")
        for number, camera in enumerate(seen)
    ]


def find_csi(root: Path) -> list[Attached]:
    """Return a hint on a Jetson whose kernel has a CSI camera's driver: only nvarguscamerasrc reads it."""
    if JETSON not in (read_text(root / "proc/device-tree/compatible") or ""):
        return []
    names = [read_line(path / "name") or "" for path in listed(root / "sys/class/video4linux", "video")]
    sensors = [name for name in names if name.startswith("vi-output")]
    return [
        Attached("csi", name.partition(",")[2].strip() or name, f"sensor {number}", f"csi:{number}")
        for number, name in enumerate(sensors)
    ]


def propose(device: str, modes: tuple[videodev.Mode, ...]) -> str:
    """Return the source line's value for a device: a size near 720p, at most 30 a second."""
    fitting = [mode for mode in modes if mode.size[0] * mode.size[1] <= USUAL_PX]
    if not fitting:
        return f"v4l2:{device}"
    first = [mode for mode in fitting if mode.fourcc == fitting[0].fourcc]
    mode = max(first, key=lambda m: (max(m.rates_hz, default=USUAL_HZ) >= SLOW_HZ, m.size[0] * m.size[1]))
    rates_hz = [int(rate) for rate in mode.rates_hz if 1 <= rate <= USUAL_HZ]
    rate = f"&fps={max(rates_hz)}" if rates_hz else ""
    size = f"size={mode.size[0]}x{mode.size[1]}"
    return f"v4l2:{device}?{size}{rate}&format={v4l2.FORMATS[mode.fourcc]}"


def _v4l2(path: Path, title: str, device: str) -> Attached | None:
    """Return what is to say of one device, None when it is no camera."""
    try:
        fd = v4l2.open_device(str(path))
    except AgentError as error:
        if error.what == v4l2.NOT_CAPTURE:
            return None
        return Attached("v4l2", title, device, "", problem=f"{error.what}; {error.fix}")
    try:
        return _describe(fd, title, device)
    finally:
        os.close(fd)


def _describe(fd: int, title: str, device: str) -> Attached | None:
    if videodev.card(fd).driver in NOT_CAMERAS or title.startswith("vi-output"):
        return None
    offered = videodev.formats(fd)
    usable = [letters for letters in v4l2.FORMATS if letters in offered]
    if not usable:
        problem = f"no format we can read ({', '.join(offered) or 'none'}): a raw sensor? see picamera:, csi:"
        return Attached("v4l2", title, device, "", problem=problem)
    modes = tuple(mode for letters in usable for mode in videodev.modes(fd, letters))
    return Attached("v4l2", title, device, propose(device, modes), modes)


def _stable_names(root: Path) -> dict[str, str]:
    """Return video0 -> /dev/v4l/by-id/..., which stays when devices are plugged in another order."""
    links = (link for link in entries(root / "dev/v4l/by-id") if link.is_symlink())
    return {link.readlink().name: f"/dev/v4l/by-id/{link.name}" for link in links}
