"""Entries for systemd's journal: by systemd-python where it is installed, else by the journal's own protocol.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

JOURNAL = Path("/run/systemd/journal/socket")
_SEND_S = 1.0
"""Longest wait for a journal that is behind."""
_MAX_CHARS = 8192
"""A value is cut here: an entry must fit into one datagram."""


def is_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Tell whether `stream` leads to the journal: systemd names its device and inode in $JOURNAL_STREAM."""
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


def encode(entry: Mapping[str, str]) -> bytes:
    """Return `entry` as one datagram: NAME=value lines, a value of several lines with its length in front."""
    parts = []
    for name, value in entry.items():
        raw = _cut(value)
        if b"\n" in raw:
            parts.append(name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n")
        else:
            parts.append(name.encode() + b"=" + raw + b"\n")
    return b"".join(parts)


def send(entry: Mapping[str, str], address: Path = JOURNAL) -> None:
    """Send one entry. Raises OSError when the journal does not take it."""
    sendv = library() if address == JOURNAL and address.exists() else None  # without a journal it is silent
    if sendv is not None:
        sendv(*(b"%s=%s" % (name.encode(), _cut(value)) for name, value in entry.items()))
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.settimeout(_SEND_S)
        link.sendto(encode(entry), str(address))


@cache
def library() -> Callable[..., None] | None:
    """Return systemd-python's `sendv`, None where it is not installed."""
    try:
        from systemd.journal import sendv
    except ImportError:
        return None
    send_fields: Callable[..., None] = sendv
    return send_fields


def _cut(value: str) -> bytes:
    return value[:_MAX_CHARS].encode(errors="replace")
