"""The URLs of attached cameras: `v4l2:/dev/video0?size=1280x720&fps=30&format=mjpeg`. Pure."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass

from agent.errors import UsageError

EXAMPLE = "v4l2:/dev/video0?size=1280x720&fps=30&format=mjpeg"


@dataclass(frozen=True, slots=True)
class DeviceUrl:
    """Which camera, and what it is asked for; None is left to the camera."""

    target: str
    size: tuple[int, int] | None = None
    fps: int | None = None
    format: str | None = None


def parse(url: str, *, keys: tuple[str, ...] = ("size", "fps")) -> DeviceUrl:
    """Return the parts of SCHEME:TARGET[?KEY=VALUE&...]. Raises UsageError."""
    target, _, query = url.partition(":")[2].partition("?")
    values = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    for key in values:
        if key not in keys:
            raise UsageError(
                "unknown camera setting", seen=f"{key} in {url}", fix=f"known: {', '.join(keys)}"
            )
    if not target:
        raise UsageError("no camera named", seen=url, fix=f"for example {EXAMPLE}")
    return DeviceUrl(
        target, _size(values.get("size"), url), _fps(values.get("fps"), url), values.get("format")
    )


def camera_number(device: DeviceUrl, url: str) -> int:
    """Return the camera's number. Raises UsageError."""
    if not re.fullmatch(r"\d{1,3}", device.target):
        raise UsageError("not a camera number", seen=url, fix="0 is the first camera")
    return int(device.target)


def _size(text: str | None, url: str) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text)
    if match is None:
        raise UsageError("not a size", seen=f"size={text} in {url}", fix="write it as 1280x720")
    return int(match[1]), int(match[2])


def _fps(text: str | None, url: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,3}", text) or int(text) == 0:
        raise UsageError("not a rate", seen=f"fps={text} in {url}", fix="a whole number, 1 or more")
    return int(text)
