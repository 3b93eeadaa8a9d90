"""The way out to a JSONL file: one line an event, on disk before it counts as delivered; gaps are logged."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Literal

import msgspec

from agent import wire
from agent.appending import append, open_to_append
from agent.backoff import Backoff
from agent.errors import CannotCreate
from agent.transport import Link, Message, Outcome, Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.transport import Received

log = logging.getLogger(__name__)

_BATCH = 64


class FileTransport:
    """A Transport that appends the payloads of `.../events/...` topics to a file; "-" is standard output.

    A gap is told as one error line in the log: the file holds events and nothing else. Other messages
    (status, state, statistics) have no place in a file and count as delivered.
    Raises CannotCreate when the file can't be written.
    """

    def __init__(self, path: Path | Literal["-"]) -> None:
        self._name = "standard output" if path == "-" else str(path)
        try:
            self._file = _open(path)
        except OSError as fault:
            fix = "give a path that can be written"
            raise CannotCreate(f"can't write to {self._name}", seen=fault.strerror, fix=fix) from fault
        self._pending: list[Message] = []
        self._backoff = Backoff(first_s=1.0, max_s=30.0, rng=random.Random())  # noqa: S311 - jitter
        self._error, self._retry_s = "", 0.0
        self._woken = threading.Event()

    @property
    def link(self) -> Link:
        """Connected unless the last write failed."""
        return Link(not self._error, 1, "file", self._error)

    @property
    def room(self) -> int:
        """How many more messages one write takes; 0 while a failed write waits for its next try."""
        return _BATCH - len(self._pending) if time.monotonic() >= self._retry_s else 0

    def send(self, message: Message) -> None:
        """Keep `message` for the next `poll`."""
        self._pending.append(message)

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        """Do nothing: a file says nothing."""

    def poll(self, timeout_s: float) -> list[Report]:
        """Write what was sent, in one piece; without any, wait for `wake` or `timeout_s`."""
        if not self._pending:
            wait_s = self._retry_s - time.monotonic()
            self._woken.wait(min(timeout_s, wait_s) if wait_s > 0 else timeout_s)
            self._woken.clear()
            return []
        sent, self._pending = self._pending, []
        lines = b"".join(m.payload + b"\n" for m in sent if "/events/" in m.topic)
        try:
            append(self._file, lines)
        except OSError as fault:
            self._error = f"{self._name}: {fault.strerror}"
            self._retry_s = time.monotonic() + self._backoff.next_s()
            return [Report(m.key, Outcome.LOST, self._error) for m in sent]
        for gap in (m.payload for m in sent if m.topic.endswith("/gap")):
            log.error("sink %s: %s", self._name, _gap_line(gap))
        self._error = ""
        self._backoff.reset()
        return [Report(m.key, Outcome.DELIVERED) for m in sent]

    def wake(self) -> None:
        """End a wait in `poll`, from any thread."""
        self._woken.set()

    def reset(self) -> None:
        """Forget what was sent and not yet written."""
        self._pending.clear()

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if not self._file.closed and self._file is not sys.stdout.buffer:
            self._file.close()


def _gap_line(payload: bytes) -> str:
    """Return in words what the gap report `payload` tells; one that can't be read is shown as it is."""
    try:
        gap = msgspec.json.decode(payload, type=wire.Gap)
    except msgspec.MsgspecError:
        return f"messages will not come: {payload!r}"
    numbers = f"numbers {gap.from_seq} to {gap.to_seq} of lane {gap.lane}, run {gap.epoch}"
    return f"{gap.count} messages will not come ({gap.reason}): {numbers}"


def _open(path: Path | Literal["-"]) -> BinaryIO:
    """Return the file, opened to append."""
    if path == "-":
        return sys.stdout.buffer
    return open_to_append(path)
