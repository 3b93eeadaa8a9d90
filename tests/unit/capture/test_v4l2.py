"""V4L2: the kernel's numbers, which format is asked for, and what errors mean. The rest needs a device."""

from __future__ import annotations

import errno
import os

import pytest

from agent.capture import videodev
from agent.capture.v4l2 import choose, explain, open_device
from agent.errors import AgentError, BadConfig, BadData, InputMissing, NotPermitted, ServiceAway

PATH = "/dev/video0"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("QUERYCAP", 0x80685600),
        ("ENUM_FMT", 0xC0405602),
        ("S_FMT", 0xC0D05605),
        ("REQBUFS", 0xC0145608),
        ("QUERYBUF", 0xC0585609),
        ("QBUF", 0xC058560F),
        ("DQBUF", 0xC0585611),
        ("STREAMON", 0x40045612),
        ("STREAMOFF", 0x40045613),
        ("S_PARM", 0xC0CC5616),
        ("ENUM_FRAMESIZES", 0xC02C564A),
        ("ENUM_FRAMEINTERVALS", 0xC034564B),
    ],
)
def test_ioctl_numbers(name: str, code: int) -> None:
    """As strace prints them on a 64-bit kernel; each holds the size of its structure."""
    assert getattr(videodev, name) == code


def test_four_letters() -> None:
    """Both ways, blanks and the big-endian bit included."""
    assert videodev.code_of("MJPG") == 0x47504A4D
    assert videodev.fourcc(0x47504A4D) == "MJPG"
    assert videodev.fourcc(videodev.code_of("Y16") | 1 << 31) == "Y16"


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        (None, ["YUYV", "MJPG"], "MJPG"),
        (None, ["YUYV", "H264"], "YUYV"),
        (None, ["GREY"], "GREY"),
        ("yuyv422", ["MJPG", "YUYV"], "YUYV"),
        ("YUYV", ["MJPG", "YUYV"], "YUYV"),
        ("mjpeg", ["JPEG", "YUYV"], "JPEG"),
    ],
)
def test_which_format(wanted: str | None, offered: list[str], chosen: str) -> None:
    """MJPG where offered, else YUYV; a wish by either name."""
    assert choose(wanted, offered, PATH) == chosen


def test_no_such_format() -> None:
    """The error names what there is; a raw sensor has another source."""
    with pytest.raises(BadConfig, match="format=h264; it has: MJPG, YUYV"):
        choose("h264", ["YUYV", "MJPG", "H264"], PATH)
    with pytest.raises(BadData, match=r"/dev/video0 offers BG10.*picamera:0"):
        choose(None, ["BG10"], PATH)


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        (errno.ENOENT, InputMissing, "no such camera: /dev/video0; `edge-agent cameras`"),
        (errno.EACCES, NotPermitted, "group video: sudo usermod -aG video"),
        (errno.EBUSY, ServiceAway, "in use: /dev/video0; see who has it: fuser -v /dev/video0"),
        (errno.ENODEV, ServiceAway, "unplugged: /dev/video0; check its cable"),
        (errno.EIO, ServiceAway, r"fails: /dev/video0 \(Input/output error\)"),
        (errno.ENOSPC, ServiceAway, "fails: /dev/video0"),
    ],
)
def test_errors(code: int, kind: type[AgentError], line: str) -> None:
    """Each has a cause a user knows, and the fix."""
    error = explain(OSError(code, os.strerror(code)), PATH)
    assert type(error) is kind
    with pytest.raises(kind, match=line):
        raise error


@pytest.mark.parametrize("path", ["/dev/null", "/dev", "/etc/passwd", "/dev/nonesuch"])
def test_what_is_no_camera(path: str) -> None:
    """One line, whatever the path is."""
    with pytest.raises(AgentError, match=r"not a capture device|no such camera"):
        open_device(path)
