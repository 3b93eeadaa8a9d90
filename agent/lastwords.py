"""The last words of an agent that ended badly: left in a file, read at the next start, where loops are slowed too."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import logging
import os
import queue
import re
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, BadConfig, TryAgain
from agent.payloads import DETAIL_BYTES, LastEnd
from agent.signals import RELOAD
from agent.urls import redact
from agent.wire import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from agent.payloads import EndReason
    from agent.systemd import Systemd

log = logging.getLogger(__name__)

NAME = "last-words"
WAITS_S = (0.0, 0.0, 2.0, 10.0, 30.0, 60.0)
"""How long a start waits after so many runs in a row that were short and ended badly."""
SHORT_S = 60.0
"""A run is short that was not well for so long before its bad end."""
_MAX_BYTES = 64 << 10
_JOURNAL_BYTES = 7 << 10
"""An entry of the log is cut at 8 KiB (agent/journald.py)."""
_START_S = 90.0
"""What a start may take once it begins: TimeoutStartSec of the unit."""
_WELL = "well"
_ORDERLY = (TryAgain, BadConfig)
"""Faults that end a run in order: starting again is not what mends them."""
_STDERR = 2

_HEADER = re.compile(r"started after (\d{1,6}) short runs\n")
_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_FAULT = re.compile(r"^fault: ", re.MULTILINE)
_THREAD = re.compile(r"(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):$")
_FRAME = re.compile(r'  File "(?P<path>.*)", line (?P<line>\d+) in (?P<name>.*)$')
_SKIPPED = re.compile(r"Extension modules: |\s*$")
_IDLE = ("threading.py", "queue.py", "selectors.py", "socket.py")


@dataclass(frozen=True, slots=True)
class Words:
    """What a file of last words says: why the run ended, how many short ones there were in a row, and all of it."""

    reason: EndReason
    short: int
    text: str

    def told(self, max_bytes: int, *, frames: int) -> str:
        """Return the text in at most `max_bytes`; a thread is one line of its `frames` innermost calls."""
        return _cut("\n".join(_compact(self.text.splitlines(), frames)), max_bytes)


def read_words(raw: bytes) -> Words:
    """Return what `raw` says; whatever it holds, secrets are redacted. A file that says nothing is that of a kill."""
    text = redact(raw.decode(errors="replace"))
    header = _HEADER.match(text)
    lines = (text[header.end() :] if header else text).splitlines()
    short = 0 if _WELL in lines else min(int(header[1]) if header else 0, len(WAITS_S)) + 1
    text = "\n".join(line for line in lines if line != _WELL)
    if fatal := _FATAL.search(text):
        return Words("aborted" if fatal[1].startswith("Aborted") else "crashed", short, text)
    return Words("fault" if _FAULT.search(text) else "killed", short, text)


class LastWords:
    """The file `last-words` in `folder`: it is there while the agent runs, and after a bad end.

    `last` is the bad end before this start, `wait_s` how long to wait before the work begins. Without a folder,
    or one that can't be written, nothing is kept, and the stacks of a crash go to standard error.
    """

    def __init__(self, folder: Path | None) -> None:
        self.last: LastEnd | None = None
        self.wait_s = 0.0
        self._path = None if folder is None else folder / NAME
        self._file = -1
        self._well_since_s: float | None = None
        self._well = self._stuck = False
        self._hook = threading.excepthook

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._open(self._path)
            except OSError as error:
                log.info("no last words are kept in %s: %s", self._path.parent, error.strerror)
        if self._file >= 0:
            faulthandler.enable(self._file)
            self._hook, threading.excepthook = threading.excepthook, self._thread_ended
        elif not faulthandler.is_enabled():
            faulthandler.enable(_STDERR)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file < 0 or self._path is None:
            return
        threading.excepthook = self._hook
        if isinstance(fault, Exception) and not isinstance(fault, _ORDERLY):
            self._write(f"fault: {fault if isinstance(fault, AgentError) else _described(fault)}")
        else:
            with contextlib.suppress(OSError):
                self._path.unlink()
        faulthandler.enable(_STDERR)
        os.close(self._file)
        self._file = -1

    def look(self, state: str, reasons: Sequence[str], now_s: float) -> None:
        """Note what hangs once it does, and once that the run is no short one any more: about once a second."""
        stuck = state == "stuck"
        if stuck != self._stuck:
            self._stuck = stuck
            self._write(f"stuck: {'; '.join(reasons)}" if stuck else "no longer stuck")
        if stuck or self._well_since_s is None:
            self._well_since_s = now_s
        if not self._well and now_s - self._well_since_s >= SHORT_S:
            self._well = True
            self._write(_WELL)

    def _open(self, path: Path) -> int:
        """Take over the file, or make it; return it open. Raises OSError, also when another agent has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        left = path.exists()
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            short = self._read(file, path.parent) if left else 0
            os.ftruncate(file, 0)
        except OSError:
            os.close(file)
            raise
        with contextlib.suppress(OSError):
            os.write(file, f"started after {short} short runs\n".encode())
        return file

    def _read(self, file: int, folder: Path) -> int:
        """Take on what the run before left; return how many were short in a row."""
        words = read_words(os.pread(file, _MAX_BYTES, 0))
        written_s = [os.fstat(file).st_mtime]
        if words.reason == "killed":  # it was alive when it wrote anything last
            with contextlib.suppress(OSError):
                written_s += [entry.stat().st_mtime for entry in os.scandir(folder) if entry.is_file()]
        when = rfc3339(min(max(written_s), time.time()))
        self.last = LastEnd(words.reason, when, words.told(DETAIL_BYTES, frames=4))
        self.wait_s = WAITS_S[min(words.short, len(WAITS_S) - 1)]
        told = words.told(_JOURNAL_BYTES, frames=12)
        log.error("the agent ended badly at %s (%s)%s", when, words.reason, f":\n{told}" if told else "")
        return words.short

    def _thread_ended(self, args: threading.ExceptHookArgs) -> None:
        """Note the fault that ended a thread; then do what is done otherwise."""
        if args.exc_value is not None:
            name = args.thread.name if args.thread else "?"
            self._write(f"thread {name}: {_described(args.exc_value)}")
        self._hook(args)

    def _write(self, text: str) -> None:
        """Add lines, while the file has room. A disk that is full is told of elsewhere."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if os.fstat(self._file).st_size < _MAX_BYTES // 2:
                os.write(self._file, redact(text.rstrip() + "\n").encode(errors="replace"))


def stopped_within(wait_s: float, happenings: queue.SimpleQueue[Any], systemd: Systemd) -> bool:
    """Wait because the last starts ended badly one soon after the other; return whether a stop was asked for."""
    if not wait_s:
        return False
    log.warning("the last runs ended badly one soon after the other: waiting %.0f s", wait_s)
    systemd.extend(
        wait_s + _START_S, f"starting in {wait_s:.0f} s: the last runs ended badly, see the journal"
    )
    deadline_s, reload = time.monotonic() + wait_s, False
    while (rest_s := deadline_s - time.monotonic()) > 0:
        try:
            what = happenings.get(timeout=rest_s)
        except queue.Empty:
            break
        if what != RELOAD.name:
            systemd.stopping("shutdown")
            return True
        reload = True
    if reload:
        happenings.put(RELOAD.name)
    return False


def _described(fault: BaseException) -> str:
    """Return what `fault` says, then its traceback: a text that is cut loses its end."""
    return "".join([*traceback.format_exception_only(fault), *traceback.format_exception(fault)])


def _compact(lines: Sequence[str], frames: int) -> Iterator[str]:
    """Yield the lines that are not of stacks, then a line for each thread; those that only wait come last."""
    stacks: list[list[str]] = []
    in_stack = False
    for line in lines:
        if _THREAD.match(line):
            stacks.append([])
            in_stack = True
        elif in_stack and (frame := _FRAME.match(line)):
            place = "/".join(frame["path"].split("/")[-2:])
            stacks[-1].append(f"{frame['name']} ({place}:{frame['line']})")
        elif not _SKIPPED.match(line) and not (in_stack and line.startswith("  ")):
            in_stack = False
            yield line
    for stack in sorted(
        filter(None, stacks), key=lambda stack: any(f"/{name}:" in stack[0] for name in _IDLE)
    ):
        yield f"thread: {' < '.join(stack[:frames])}"


def _cut(text: str, max_bytes: int) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= max_bytes else raw[: max_bytes - 3].decode(errors="ignore") + "..."
