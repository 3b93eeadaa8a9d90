"""The log: plain lines for people, JSON for programs, fields for the journal; no credentials, no floods."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

import msgspec

from agent.journald import JOURNAL, is_journal, send
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Form = Literal["auto", "plain", "json", "journal"]

_REPEAT_S = 10.0
_MAX_REMEMBERED = 256
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
PROGRAM = "edge-agent"
_KINDS = uuid.UUID("461e6a02-82ef-4e09-beab-1e40496b6104")
"""The name space of the ids of messages; drawn once, never to change."""
_PLACES = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]")
_SUBJECTS = {"camera": "camera", "event": "event_id"}
"""Words of a message after which its argument stands, and the field that this argument is."""


def setup(verbose: int = 0, form: Form = "auto", *, program: str = PROGRAM) -> None:
    """Send the log to standard error, or with its fields to systemd's journal: "auto" does where that listens.

    Warnings, in the journal also what is done; with `verbose` 1 that everywhere, from 2 also why.
    """
    journal = form == "journal" or (form == "auto" and is_journal(os.environ, sys.stderr))
    handler = ToJournal() if journal else logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Plain(program))
    handler.addFilter(Calm())
    level = logging.INFO if journal else logging.WARNING
    logging.basicConfig(level=level, handlers=[handler], force=True)
    louder(verbose)


def louder(verbose: int) -> None:
    """Say as much as `verbose` asks for, if that is more than is said now."""
    root = logging.getLogger()
    root.setLevel(min(root.level, _LEVELS[min(verbose, 2)]))


def fields(record: logging.LogRecord) -> dict[str, str]:
    """Return what a message is about, by name: `message_id` of its kind, and `camera`, `event_id` where it has one.

    The kind is the logger and the text without its arguments: the same in every run, new when the text is. A
    camera is the argument after the word "camera" of that text. Nothing in it is redacted.
    """
    text = str(record.msg)
    found = {"message_id": uuid.uuid5(_KINDS, f"{record.name}: {text}").hex}
    if isinstance(record.args, tuple):
        for place, argument in zip(_PLACES.finditer(text.replace("%%", "  ")), record.args, strict=False):
            word = re.search(r"(\w+) $", text[: place.start()])
            if word is not None and (name := _SUBJECTS.get(word[1])):
                found[name] = str(argument)
    return found


class Plain(logging.Formatter):
    """`edge-agent: warning: text`; while more than warnings is said, with time and logger. URLs lose their logins."""

    def __init__(self, program: str = PROGRAM) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines with a traceback."""
        text = f"{record.levelname.lower()}: {told(record)}"
        if logging.getLogger().level >= logging.WARNING:
            return f"{self._program}: {text}"
        return f"{self.formatTime(record)} {record.name}: {text}"


class Json(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, and its `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        utc = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": told(record),
            **{name: redact(value) for name, value in fields(record).items()},
        }
        return msgspec.json.encode(line).decode()


class ToJournal(logging.Handler):
    """Sends records to the journal as MESSAGE, PRIORITY, MESSAGE_ID, CAMERA, EVENT_ID, LOGGER and CODE_...

    What the journal does not take goes to standard error.
    """

    def __init__(self, address: Path = JOURNAL) -> None:
        super().__init__()
        self._address = address
        self._otherwise = logging.StreamHandler(sys.stderr)
        self._otherwise.setFormatter(Plain())

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        about = {name.upper(): redact(value) for name, value in fields(record).items()}
        entry = {
            "MESSAGE": told(record),
            "PRIORITY": _priority(record.levelno),
            "SYSLOG_IDENTIFIER": PROGRAM,
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            **about,
        }
        try:
            send(entry, self._address)
        except OSError:
            self._otherwise.emit(record)


class Calm(logging.Filter):
    """Let one message through every `repeat_s`; the next one says how often it was held back meanwhile."""

    def __init__(self, repeat_s: float = _REPEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeat_s, self._clock = repeat_s, clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether `record` is to be shown; notes in it how many were held back."""
        now_s, key = self._clock(), (record.name, record.getMessage())
        shown_s, held_back = self._seen.get(key, (now_s - self._repeat_s, 0))
        if now_s - shown_s < self._repeat_s:
            self._seen[key] = (shown_s, held_back + 1)
            return False
        record.held_back = held_back
        if len(self._seen) >= _MAX_REMEMBERED:
            self._seen.clear()
        self._seen[key] = (now_s, 0)
        return True


def told(record: logging.LogRecord) -> str:
    """Return the message, how often it was held back, and the traceback, without logins."""
    text = record.getMessage()
    if held_back := getattr(record, "held_back", 0):
        text = f"{text} (and {held_back} times more)"
    if record.exc_info:
        text = f"{text}\n{_TRACEBACKS.formatException(record.exc_info)}"
    return redact(text)


def _priority(level: int) -> str:
    """Return the level of syslog."""
    steps = ((logging.CRITICAL, "2"), (logging.ERROR, "3"), (logging.WARNING, "4"), (logging.INFO, "6"))
    return next((priority for least, priority in steps if level >= least), "7")


_TRACEBACKS = logging.Formatter()
