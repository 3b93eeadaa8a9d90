"""A child process that may do anything: its output, memory and time are bounded, and it ends with all it started."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.enginestore.memory import bounds_for, read_rss_bytes, read_system_bytes
from agent.errors import BadData, TryAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOK_S = 0.05
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a child may take: resident memory beyond what `base_bytes` of its output says, time, and text."""

    rss_bytes: int
    wall_s: float
    output_bytes: int = _MIB


def run_confined(command: Sequence[str], bounds: Bounds, base_bytes: Callable[[bytes], int | None]) -> bytes:
    """Run `command` to its end and return what it printed.

    `base_bytes` tells, of what it printed so far, how much memory it had before the work began; None: not known.
    Raises BadData for one that goes over its bounds, crashes, or leaves processes behind; TryAgain where the
    device has no memory or no process for it, also for one that was killed.
    """
    try:
        child = subprocess.Popen(  # noqa: S603 - the caller's own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise TryAgain("no process for the trial", seen=error.strerror, fix="try again") from None
    with child:
        try:
            output, said = _watch(child, bounds, base_bytes)
            left = _session(child.pid) - {child.pid}
        finally:  # it is not reaped yet: nobody else has its number
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode:
        raise _crash(child.returncode, said)
    if left:
        raise BadData("it left processes behind", seen=len(left))
    return output


def _watch(
    child: subprocess.Popen[bytes], bounds: Bounds, base_bytes: Callable[[bytes], int | None]
) -> tuple[bytes, bytes]:
    """Follow `child` to its end, which is left to be reaped; return its output and its last words."""
    memory = bounds_for(*read_system_bytes())
    end_s = time.monotonic() + bounds.wall_s
    printed: dict[object, bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    output, words = printed[child.stdout], printed[child.stderr]
    with selectors.DefaultSelector() as selector:
        for stream in filter(None, (child.stdout, child.stderr)):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while not (ended := _ended(child.pid)) or selector.get_map():
            ready = selector.select(0 if ended else _LOOK_S) if selector.get_map() else []
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                printed[key.fileobj] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if ended and not ready:  # a process that it left behind holds its output open
                break
            if not selector.get_map() and not ended:
                time.sleep(_LOOK_S)
            if len(output) + len(words) > bounds.output_bytes:
                raise BadData("it printed too much", seen=f"more than {bounds.output_bytes >> 10} KiB")
            rss_bytes = read_rss_bytes(child.pid)
            grown_bytes = rss_bytes - (base_bytes(bytes(output)) or 0)
            if grown_bytes > bounds.rss_bytes:
                raise BadData("it took too much memory", seen=f"more than {bounds.rss_bytes // _MIB} MiB")
            if objection := memory.objection(rss_bytes, read_system_bytes()[1]):
                raise TryAgain("not enough memory for the trial", seen=objection, fix="stop other programs")
            if time.monotonic() > end_s:
                raise BadData("it came to no end", seen=f"within {bounds.wall_s:.0f} s")
    return bytes(output), bytes(words)


def _ended(pid: int) -> bool:
    """Tell whether the child has ended; it stays to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _session(session: int) -> set[int]:
    """Return the processes of a session; proc(5), /proc/PID/stat: the fourth field after the name."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = place.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.add(int(place.parent.name))
    return found


def _crash(code: int, said: bytes) -> BadData | TryAgain:
    """Return what to tell of a child that did not end well."""
    if code == -signal.SIGXCPU:
        return BadData("it spins, or is far too slow", seen="its processor time is used up")
    if code == -signal.SIGKILL:  # where memory is short the kernel takes a trial first, whoever has it
        fix = "stop other programs"
        return TryAgain("the trial was killed", seen="the device had no memory left", fix=fix)
    if code < 0:
        number = -code
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return BadData("it crashed", seen=name)
    lines = said.decode(errors="replace").strip().splitlines()
    words = "".join(filter(str.isprintable, lines[-1]))[:160] if lines else f"exit code {code}"
    return BadData("it failed", seen=words)
