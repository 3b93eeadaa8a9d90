"""A model tried before it runs: in a process of its own, once on each runtime; how it went is kept."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import __version__
from agent.errors import BadData
from agent.modelstore.confined import Bounds, run_confined
from agent.modelstore.question import Answer, Figures, Question
from agent.ownprogram import command_of
from agent.wholefile import write_whole
from agent.wire import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = "trials"
CHILD = tuple(command_of("agent.modelstore.child"))
_PACKAGES = ("ai-edge-litert", "tflite-runtime", "tensorrt")
_BOARD = Path("/proc/device-tree/model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may take: `max_ms` at p95 (None: by what runs now, see `agent.modelstore.child`).

    `rss_bytes` beyond those of the process before; processor time and time of the whole trial.
    """

    max_ms: float | None = None
    rss_bytes: int = 1 << 30
    cpu_s: int = 120
    wall_s: float = 300.0


class TrialResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model did on a `runtime`: its figures, or why it is refused. `time` is UTC, RFC 3339."""

    sha: str
    runtime: str
    time: str
    took_s: float
    figures: Figures | None = None
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether it may run."""
        return not self.why


@lru_cache(maxsize=1)
def runtime() -> str:
    """Return what a trial holds for: the runtimes, the board, the kernel and this agent, each with its version."""
    found = []
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    board = platform.machine()
    with contextlib.suppress(OSError):
        board = _BOARD.read_text(encoding="utf-8", errors="replace").strip(" \n\0") or board
    kernel = f"{platform.system()} {platform.release()}"
    return ", ".join((*(found or ["no runtime"]), board, kernel, f"agent {__version__}"))


def try_in_child(
    bundle: Path,
    sha: str,
    against: Sequence[Path],
    *,
    threads: int,
    limits: Limits,
    command: Sequence[str] = CHILD,
) -> TrialResult:
    """Try the checked bundle beside those of `against` that work.

    Raises AgentError for what is no fault of the model: no memory, no process, no runtime.
    """
    began_s = time.monotonic()
    figures, why = None, ""
    try:
        figures = _ask(bundle, against, threads, limits, command)
        if figures.p95_ms > figures.limit_ms:
            why = f"too slow: p95 {figures.p95_ms:.0f} ms, {figures.limit_ms:.0f} ms at most"
        elif figures.rss_bytes > limits.rss_bytes:
            mib = figures.rss_bytes >> 20, limits.rss_bytes >> 20
            why = f"too large: {mib[0]} MiB of memory, {mib[1]} MiB at most"
    except BadData as fault:
        why = str(fault)
    took_s = round(time.monotonic() - began_s, 1)
    return TrialResult(sha, runtime(), rfc3339(time.time()), took_s, figures, why)


class Trials:
    """The results in `folder`, one for each model and runtime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def kept(self, sha: str) -> TrialResult | None:
        """Return how the model did on the runtime of now, None if it was not tried on it."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            result = msgspec.json.decode(self._file(sha).read_bytes(), type=TrialResult)
            return result if (result.sha, result.runtime) == (sha, runtime()) else None
        return None

    def keep(self, result: TrialResult) -> None:
        """Keep `result`. Raises CannotCreate."""
        write_whole(self._file(result.sha), msgspec.json.encode(result))

    def forget(self, sha: str) -> None:
        """Remove the results of the model on any runtime. Raises OSError."""
        for file in self.folder.glob(f"{sha}-*"):
            file.unlink(missing_ok=True)

    def _file(self, sha: str) -> Path:
        return self.folder / f"{sha}-{hashlib.sha256(runtime().encode()).hexdigest()[:16]}.json"


def _ask(
    bundle: Path, against: Sequence[Path], threads: int, limits: Limits, command: Sequence[str]
) -> Figures:
    question = Question(
        bundle=str(bundle.absolute()),
        against=tuple(str(path.absolute()) for path in against),
        threads=threads,
        max_ms=limits.max_ms,
        cpu_s=limits.cpu_s,
        data_bytes=2 * limits.rss_bytes,
        parent=os.getpid(),
    )
    bounds = Bounds(limits.rss_bytes, limits.wall_s)
    output = run_confined([*command, msgspec.json.encode(question).decode()], bounds, _base_bytes)
    answers = _answers(output)
    last = answers[-1] if answers else Answer()
    if last.fault is not None:
        raise last.fault.error()
    if last.figures is None:
        raise BadData("the trial gave no answer")
    return last.figures


def _base_bytes(output: bytes) -> int | None:
    """Return what the child had before the model, None as long as it did not tell."""
    line, end, _ = output.partition(b"\n")
    try:
        return msgspec.json.decode(line, type=Answer).base_bytes if end else None
    except msgspec.MsgspecError:
        return None


def _answers(output: bytes) -> list[Answer]:
    """Return the lines of `output`. Raises BadData for what is none."""
    try:
        return [msgspec.json.decode(line, type=Answer) for line in output.splitlines()]
    except msgspec.MsgspecError:
        raise BadData("the trial printed what it should not", seen=repr(output[:40])) from None
