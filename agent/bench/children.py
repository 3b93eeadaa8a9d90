"""What is measured in fresh processes: memory and start-up time, which the bench's own would falsify."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.bench.meter import peak_rss_mb
from agent.errors import AgentError, IOFault
from agent.ownprogram import command_of

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_S = 120.0
"""Longest wait for the first inference: a Pi Zero with a cold SD card takes tens of seconds."""
_END_S = 20.0
_POLL_S = 0.02


class Start(NamedTuple):
    """How long `edge-agent run` took from exec to its first inference, and its peak memory (None: not told)."""

    first_inference_s: float
    peak_rss_mb: float | None


def ask(module: str, question: str, *, limit_s: float) -> bytes:
    """Run `python -m MODULE QUESTION` and return what it printed. Raises IOFault with its last words."""
    command = command_of(module, question)
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)  # noqa: S603 - ourselves
    except subprocess.TimeoutExpired as error:
        raise IOFault("a measuring process does not end", seen=f"{limit_s:.0f} s", fix="try again") from error
    if done.returncode:
        raise _failed(done.stderr)
    return done.stdout


def answer(work: Callable[[str], bytes]) -> None:
    """Be the process that `ask` started: print what `work` makes of the question."""
    try:
        sys.stdout.buffer.write(work(sys.argv[1]))
    except AgentError as error:
        sys.exit(str(error))


def start_agent(clip: Path, model: Path, *, threads: int, stay_s: float) -> Start:
    """Start `edge-agent run` on `clip` at real-time pace, end it `stay_s` after its first inference.

    Raises IOFault when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="edge-agent-bench-") as folder:
        run = ["run", "--source", str(clip), "--model", str(model), "--threads", str(threads)]
        run += ["--sink", f"{folder}/events.jsonl", "--state", f"{folder}/state"]
        told, said = Path(folder) / "first", Path(folder) / "said"
        with said.open("wb") as stderr:
            begin_s = time.monotonic()
            child = subprocess.Popen(  # noqa: S603 - ourselves
                command_of("agent.bench.first", str(told), *run),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
            try:
                first_s = _first_inference_s(child, told, begin_s + _FIRST_S)
                if first_s is not None:
                    rss_mb = _peak_until(child, time.monotonic() + stay_s)
            finally:
                _end(child)
        if first_s is None:
            raise _failed(said.read_bytes())
    return Start(first_s - begin_s, rss_mb)


def _first_inference_s(child: subprocess.Popen[bytes], told: Path, deadline_s: float) -> float | None:
    """Return when `child` had its first inference, on the monotonic clock; None when it ended without."""
    while time.monotonic() < deadline_s:
        ended = child.poll() is not None
        if told.exists():
            return float(told.read_text(encoding="ascii"))
        if ended:
            return None
        time.sleep(_POLL_S)
    return None


def _peak_until(child: subprocess.Popen[bytes], deadline_s: float) -> float | None:
    """Return the last reading of the peak before `deadline_s` or the end of `child`: it never falls."""
    peak_mb = peak_rss_mb(child.pid)
    while child.poll() is None and time.monotonic() < deadline_s:
        peak_mb = peak_rss_mb(child.pid) or peak_mb
        time.sleep(_POLL_S)
    return peak_mb


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _failed(stderr: bytes) -> IOFault:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return IOFault(
        "a measuring process failed", seen=lines[-1] if lines else "no message", fix="try `edge-agent run`"
    )
