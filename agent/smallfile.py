"""A small file that a person wrote, read whole: bounded, never waited for, each fault in one line."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from agent.errors import BadConfig, InputMissing, NotPermitted

if TYPE_CHECKING:
    from pathlib import Path


FIX = "give the path of a file that is there"


def read_small(path: Path, *, what: str, max_bytes: int, missing: str = FIX) -> tuple[bytes, int]:
    """Return the content of the file and its mode. `what` names it in faults, `missing` is the fix without it.

    Raises InputMissing, NotPermitted, and BadConfig for what is larger or not a file (FIFOs, devices).
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputMissing(what, seen="no such file", fix=missing) from None
    except PermissionError:
        fix = "let the agent's user read it (chgrp, then chmod 640)"
        raise NotPermitted(what, seen="permission denied", fix=fix) from None
    except (OSError, ValueError) as error:
        raise BadConfig(what, seen=_reason(error), fix="give the path of a file") from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise BadConfig(what, seen="not a file", fix="give the path of a file")
        with open(handle, "rb", closefd=False) as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise BadConfig(what, seen=_reason(error), fix="give the path of a file") from None
    finally:
        os.close(handle)
    if len(text) > max_bytes:
        raise BadConfig(what, seen=f"more than {max_bytes} bytes", fix="give a smaller file")
    return text, mode


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
