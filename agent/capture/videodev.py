"""V4L2's ioctls, as linux/videodev2.h has them on a 64-bit kernel, and what a device says of itself.

https://docs.kernel.org/userspace-api/media/v4l/user-func.html
"""

from __future__ import annotations

import ctypes
import fcntl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

U32, U8 = ctypes.c_uint32, ctypes.c_uint8
CAPTURE, MMAP = 1, 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP."""
CAP_VIDEO_CAPTURE, CAP_STREAMING, CAP_DEVICE_CAPS = 0x00000001, 0x04000000, 0x80000000
BUFFER_ERROR, STAMP_MASK, STAMP_MONOTONIC = 0x40, 0xE000, 0x2000
DISCRETE = 1
MAX_LISTED = 64


class Capability(ctypes.Structure):
    """v4l2_capability."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", U32),
        ("capabilities", U32),
        ("device_caps", U32),
        ("reserved", U32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """v4l2_fmtdesc."""

    _fields_ = (
        ("index", U32),
        ("type", U32),
        ("flags", U32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", U32),
        ("mbus_code", U32),
        ("reserved", U32 * 3),
    )


class FrameSize(ctypes.Structure):
    """v4l2_frmsizeenum: `values` is width and height, or min, max, step of the width, then of the height."""

    _fields_ = (
        ("index", U32),
        ("pixel_format", U32),
        ("type", U32),
        ("values", U32 * 6),
        ("reserved", U32 * 2),
    )


class FrameInterval(ctypes.Structure):
    """v4l2_frmivalenum: `values` is numerator and denominator, or those of min, max, step."""

    _fields_ = (
        ("index", U32),
        ("pixel_format", U32),
        ("width", U32),
        ("height", U32),
        ("type", U32),
        ("values", U32 * 6),
        ("reserved", U32 * 2),
    )


class Format(ctypes.Structure):
    """v4l2_format with the member v4l2_pix_format of its union."""

    _fields_ = (
        ("type", U32),
        ("align", U32),
        ("width", U32),
        ("height", U32),
        ("pixelformat", U32),
        ("field", U32),
        ("bytesperline", U32),
        ("sizeimage", U32),
        ("more", U32 * 6),
        ("rest", U8 * 152),
    )


class StreamParameters(ctypes.Structure):
    """v4l2_streamparm with the member v4l2_captureparm of its union."""

    _fields_ = (
        ("type", U32),
        ("capability", U32),
        ("capturemode", U32),
        ("numerator", U32),
        ("denominator", U32),
        ("rest", U8 * 184),
    )


class BufferRequest(ctypes.Structure):
    """v4l2_requestbuffers."""

    _fields_ = (("count", U32), ("type", U32), ("memory", U32), ("capabilities", U32), ("flags", U32))


class Buffer(ctypes.Structure):
    """v4l2_buffer; the stamp in seconds and microseconds, `offset` of its mapping."""

    _fields_ = (
        ("index", U32),
        ("type", U32),
        ("bytesused", U32),
        ("flags", U32),
        ("field", U32),
        ("stamp_s", ctypes.c_int64),
        ("stamp_us", ctypes.c_int64),
        ("timecode", U32 * 4),
        ("sequence", U32),
        ("memory", U32),
        ("offset", ctypes.c_uint64),
        ("length", U32),
        ("reserved2", U32),
        ("request_fd", U32),
    )


def _code(direction: int, number: int, kind: Any) -> int:
    return direction << 30 | ctypes.sizeof(kind) << 16 | ord("V") << 8 | number


READ, WRITE = 2, 1
QUERYCAP = _code(READ, 0, Capability)
ENUM_FMT = _code(READ | WRITE, 2, FormatDescription)
S_FMT = _code(READ | WRITE, 5, Format)
REQBUFS = _code(READ | WRITE, 8, BufferRequest)
QUERYBUF = _code(READ | WRITE, 9, Buffer)
QBUF = _code(READ | WRITE, 15, Buffer)
DQBUF = _code(READ | WRITE, 17, Buffer)
STREAMON = _code(WRITE, 18, ctypes.c_int)
STREAMOFF = _code(WRITE, 19, ctypes.c_int)
S_PARM = _code(READ | WRITE, 22, StreamParameters)
ENUM_FRAMESIZES = _code(READ | WRITE, 74, FrameSize)
ENUM_FRAMEINTERVALS = _code(READ | WRITE, 75, FrameInterval)


@dataclass(frozen=True, slots=True)
class Mode:
    """A format by its four letters, and a size (width, height) with its rates, the fastest first."""

    fourcc: str
    size: tuple[int, int]
    rates_hz: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """What a device says it is."""

    name: str
    driver: str
    bus: str
    captures: bool


def fourcc(code: int) -> str:
    """Return the four letters of a pixel format."""
    return (code & 0x7FFFFFFF).to_bytes(4, "little").decode("latin-1").strip()


def code_of(letters: str) -> int:
    """Return the pixel format of four letters."""
    return int.from_bytes(letters.ljust(4).encode("latin-1"), "little")


def card(fd: int) -> Card:
    """Return what the device says it is. Raises OSError for one that is none of V4L2's."""
    seen = Capability()
    fcntl.ioctl(fd, QUERYCAP, seen)
    able = seen.device_caps if seen.capabilities & CAP_DEVICE_CAPS else seen.capabilities
    captures = bool(able & CAP_VIDEO_CAPTURE and able & CAP_STREAMING)
    return Card(_text(seen.card), _text(seen.driver), _text(seen.bus_info), captures)


def formats(fd: int) -> list[str]:
    """Return the four letters of each format that the device captures, in its order."""
    found = (FormatDescription(index=i, type=CAPTURE) for i in range(MAX_LISTED))
    return [fourcc(entry.pixelformat) for entry in _listed(fd, ENUM_FMT, found)]


def modes(fd: int, letters: str) -> list[Mode]:
    """Return the sizes of a format; of a range of sizes the largest."""
    entries = (FrameSize(index=i, pixel_format=code_of(letters)) for i in range(MAX_LISTED))
    found = []
    for entry in _listed(fd, ENUM_FRAMESIZES, entries):
        discrete = entry.type == DISCRETE
        size = (entry.values[0], entry.values[1]) if discrete else (entry.values[1], entry.values[4])
        found.append(Mode(letters, size, _rates_hz(fd, letters, size)))
        if not discrete:
            break
    return found


def _rates_hz(fd: int, letters: str, size: tuple[int, int]) -> tuple[float, ...]:
    entries = (
        FrameInterval(index=i, pixel_format=code_of(letters), width=size[0], height=size[1])
        for i in range(MAX_LISTED)
    )
    rates: set[float] = set()
    for entry in _listed(fd, ENUM_FRAMEINTERVALS, entries):
        if entry.values[0]:
            rates.add(round(entry.values[1] / entry.values[0], 2))
        if entry.type != DISCRETE:
            break
    return tuple(sorted(rates, reverse=True))


def _listed(fd: int, request: int, entries: Iterator[Any]) -> Iterator[Any]:
    """Yield entries until the driver says that there are no more (EINVAL)."""
    for entry in entries:
        try:
            fcntl.ioctl(fd, request, entry)
        except OSError:
            return
        yield entry


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip()
