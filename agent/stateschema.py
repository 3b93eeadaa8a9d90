"""The version of what lies in the state directory: an older agent leaves alone what it would misread."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent import __version__
from agent.errors import BadConfig, CannotCreate
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

STATE_SCHEMA = 1
"""Raised by a change that an agent of before would misread. Whoever raises it carries the old state over."""
NAME = "schema"
"""The file: the number on its first line, on its second the version of the agent that wrote it."""
_MAX_BYTES = 256


def check(state_dir: Path) -> None:
    """Raise BadConfig when the state directory is of a newer agent. Touches nothing."""
    _read(state_dir)


def claim(state_dir: Path) -> None:
    """Check the state directory, and note that it is of this version where it does not say so yet.

    To be called before anything in it is opened. A disk that refuses is no fault here: the outbox tells it.
    Raises BadConfig.
    """
    if _read(state_dir) == STATE_SCHEMA:
        return
    try:
        write_whole(state_dir / NAME, f"{STATE_SCHEMA}\n{__version__}\n".encode())
    except CannotCreate as fault:
        log.debug("state: %s", fault)


def _read(state_dir: Path) -> int | None:
    """Return the number that is there, None without one that can be read. Raises BadConfig for a newer one."""
    path = state_dir / NAME
    try:
        with path.open("rb") as file:
            first, *more = file.read(_MAX_BYTES).decode("ascii").split("\n")
        number = int(first)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        log.warning("state: %s can't be read (%s): taken for that of this version", path, error)
        return None
    if number > STATE_SCHEMA:
        by = f" {more[0]}" if more and more[0] else ""
        raise BadConfig(
            f"{state_dir} is of a newer edge-agent",
            seen=f"state schema {number}, this version knows {STATE_SCHEMA}",
            fix=f"install edge-agent{by} or newer, or move the directory away: what is queued in it stays there",
        )
    return number
