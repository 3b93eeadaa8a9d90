"""Logging to stderr: plain lines for people, times when asked for, no credentials, no floods."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable

_REPEAT_S = 10.0
_MAX_REMEMBERED = 256


def setup(verbose: int = 0) -> None:
    """Send the log to stderr: warnings; with `verbose` 1 also what is done, from 2 also why, with times."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting(verbose))
    handler.addFilter(Calm())
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Redacting(logging.Formatter):
    """`edge-agent: warning: text`; verbose: with time and logger. URLs lose their credentials everywhere."""

    def __init__(self, verbose: int = 0) -> None:
        super().__init__("%(asctime)s %(name)s: " * bool(verbose) + "%(level)s: %(message)s")
        self._prefix = "" if verbose else "edge-agent: "

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines with a traceback."""
        record.level = record.levelname.lower()
        return self._prefix + redact(super().format(record))


class Calm(logging.Filter):
    """Let one message through every `repeat_s`; the next one says how often it was held back meanwhile."""

    def __init__(self, repeat_s: float = _REPEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeat_s, self._clock = repeat_s, clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether `record` is to be shown; may add the count of those held back to its text."""
        now_s, key = self._clock(), (record.name, record.getMessage())
        shown_s, held_back = self._seen.get(key, (now_s - self._repeat_s, 0))
        if now_s - shown_s < self._repeat_s:
            self._seen[key] = (shown_s, held_back + 1)
            return False
        if held_back:
            record.msg, record.args = f"{key[1]} (and {held_back} times more)", ()
        if len(self._seen) >= _MAX_REMEMBERED:
            self._seen.clear()
        self._seen[key] = (now_s, 0)
        return True
