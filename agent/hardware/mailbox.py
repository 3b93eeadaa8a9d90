"""The mailbox of a Raspberry Pi's firmware: one question through /dev/vcio, with no library."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

VCIO = Path("dev/vcio")
_PROPERTY = (3 << 30) | (struct.calcsize("P") << 16) | (100 << 8)
"""IOCTL_MBOX_PROPERTY of the kernel's vcio driver: _IOWR(100, 0, char *)."""
_GET_THROTTLED = 0x00030046
_MESSAGE = struct.Struct("<7I")
"""Size, code, then one tag: its number, size of the value, size of the answer, the value; 0 ends it."""
_ASK, _ANSWERED = 0, 0x80000000


def read_throttled(root: Path = Path("/"), ioctl: Callable[..., int] = fcntl.ioctl) -> int | None:
    """Return the firmware's throttling bits; None where there is no mailbox or no answer.

    Asked with 0, for any other value would clear bits that the kernel's own driver looks at.
    """
    message = bytearray(_MESSAGE.pack(_MESSAGE.size, _ASK, _GET_THROTTLED, 4, 4, 0, 0))
    try:
        handle = os.open(root / VCIO, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        ioctl(handle, _PROPERTY, message, True)
    except OSError:
        return None
    finally:
        os.close(handle)
    _, code, _, _, _, value, _ = _MESSAGE.unpack(message)
    return value if code == _ANSWERED else None
