"""Files of the system that may be missing, hidden, unreadable or garbage: text or None, never an exception."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT_BYTES = 32 << 20
"""No file that is read here comes near it; dpkg's status is the largest with a few MB."""


def read_bytes(path: Path) -> bytes | None:
    """Return what a regular file holds; None where there is none, or the kernel gives no answer."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with os.fdopen(handle, "rb") as file:
            return file.read(_LIMIT_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None


def read_text(path: Path) -> str | None:
    """Return the text of a file, with what is not UTF-8 replaced; None as in `read_bytes`."""
    raw = read_bytes(path)
    return None if raw is None else raw.decode(errors="replace")


def read_line(path: Path) -> str | None:
    """Return the printable characters of a file's first line, at most 200; None for none."""
    text = (read_text(path) or "").strip("\0\n ").partition("\n")[0]
    return printable(text) or None


def read_int(path: Path) -> int | None:
    """Return the whole number a file holds, at most 12 digits."""
    return whole(read_text(path) or "")


def entries(directory: Path) -> list[Path]:
    """Return what a directory holds, by name; nothing where there is none."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def listed(directory: Path, prefix: str) -> list[Path]:
    """Return the entries of a directory that are `prefix` and a number, by that number."""
    numbered = [path for path in entries(directory) if re.fullmatch(rf"{prefix}[0-9]{{1,6}}", path.name)]
    return sorted(numbered, key=lambda path: int(path.name[len(prefix) :]))


def whole(text: str) -> int | None:
    """Return the whole number `text` is, at most 12 digits: what fits into any counter and into JSON."""
    text = text.strip("\0 \t\r\n")
    return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None


def printable(text: str) -> str:
    """Return `text` without what a terminal should not get, at most 200 characters."""
    return "".join(c for c in text if c.isprintable() and c != "\ufffd").strip()[:200]
