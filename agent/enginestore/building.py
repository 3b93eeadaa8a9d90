"""Builds an engine in a process of its own, whose memory is watched; one build at a time on a device."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import msgspec

from agent.enginestore.key import Record, trial_of
from agent.enginestore.memory import Bounds, bounds_for, read_rss_bytes, read_system_bytes, workspace_for
from agent.enginestore.request import Request, Said
from agent.enginestore.store import LOCK, PLAN, TIMING, disk_fault
from agent.errors import AgentError, BadData, CannotCreate, IOFault, TryAgain
from agent.ownprogram import command_of
from agent.wire import rfc3339

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from agent.bundle import Artifact, Bundle
    from agent.enginestore.key import Key
    from agent.enginestore.store import EngineStore

log = logging.getLogger(__name__)

CHILD = tuple(command_of("agent.enginestore.child"))
_LOOK_S = 0.1
"""How often the memory is looked at: a build takes some hundred MB in a second."""
_LONGEST_S = 3600.0
"""A build that takes longer hangs."""


class Cancelled(Exception):
    """The agent ends: the build is given up, which is no failure."""


@dataclass(frozen=True, slots=True)
class Builder:
    """How engines are built into `store`: `tell` hears how it goes, `cancelled` ends it.

    `bounds` of memory are those of the device when a build begins, if none are given.
    """

    store: EngineStore
    tell: Callable[[str], None]
    cancelled: threading.Event
    bounds: Bounds | None = None
    command: Sequence[str] = CHILD

    def build(self, bundle: Bundle, artifact: Artifact, key: Key) -> Record:
        """Build and try the engine of `artifact`, unless another process just did; return what is told of it.

        Raises BadData for what TensorRT refuses or what fails its self-test, TryAgain for want of memory,
        ServiceAway without a driver, CannotCreate and IOFault for the disk, Cancelled. All but the last and
        those of the disk are remembered.
        """
        with self._lock():
            if (record := self.store.record(key)) is not None:
                return record
            try:
                record = self._build(bundle, artifact, key)
            except (CannotCreate, IOFault):
                raise
            except AgentError as fault:
                trial = trial_of(bundle.manifest)
                self.store.remember(key, trial, artifact.file, str(fault), lasting=_lasts(fault))
                raise
            self.store.forget(key)
            return record

    def _build(self, bundle: Bundle, artifact: Artifact, key: Key) -> Record:
        began_s = time.monotonic()
        total_bytes, free_bytes = read_system_bytes()
        with self.store.draft() as draft:
            request = Request(
                bundle=str(bundle.path.absolute()),
                artifact=artifact.file,
                sha256=artifact.sha256,
                batch=key.batch,
                draft=str(draft.absolute()),
                timing_cache=str(self.store.timing_cache(key.target).absolute()),
                workspace_bytes=workspace_for(free_bytes),
                parent=os.getpid(),
            )
            outputs = self._run(request, self.bounds or bounds_for(total_bytes, free_bytes))
            plan = (draft / PLAN).read_bytes()
            record = Record(
                key=key,
                model=f"{bundle.manifest.name} {bundle.manifest.version}",
                artifact=artifact.file,
                precision=artifact.precision,
                outputs=outputs,
                made=rfc3339(time.time()),
                took_s=round(time.monotonic() - began_s, 1),
                plan_bytes=len(plan),
                plan_sha256=hashlib.sha256(plan).hexdigest(),
            )
            if (draft / TIMING).exists():
                self.store.keep_timing_cache(key.target, draft / TIMING)
            self.store.commit(draft, record)
        return record

    def _run(self, request: Request, bounds: Bounds) -> tuple[str, ...]:
        """Have the child do `request`; return the engine's outputs. Raises what it raised, or what became of it."""
        command = [*self.command, msgspec.json.encode(request).decode()]
        with tempfile.TemporaryFile() as stderr:
            try:
                child = subprocess.Popen(  # noqa: S603 - ourselves
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
            except OSError as error:
                raise TryAgain("no process for the build", seen=error.strerror, fix="try again") from None
            with child:
                try:
                    last = self._watch(child, bounds, request.artifact)
                finally:
                    child.kill()
            if child.returncode == 0:
                return last.outputs
            if last.fault is not None:
                raise last.fault.error()
            raise _crash(request.artifact, child.returncode, stderr)

    def _watch(self, child: subprocess.Popen[bytes], bounds: Bounds, name: str) -> Said:
        """Follow the child to its end; return what it said last. Raises TryAgain for its memory, Cancelled."""
        last, deadline_s = Said(), time.monotonic() + _LONGEST_S
        for line in _lines(child):
            if line:
                last = msgspec.json.decode(line, type=Said)
                if last.progress:
                    self.tell(f"{name}: {last.progress}")
            if self.cancelled.is_set():
                raise Cancelled
            if objection := bounds.objection(read_rss_bytes(child.pid), read_system_bytes()[1]):
                fix = "stop other programs, or add swap; `edge-agent engine build` tries again"
                raise TryAgain(f"not enough memory to build {name}", seen=objection, fix=fix)
            if time.monotonic() > deadline_s:
                fix = "look into the log with -v and report it"
                raise TryAgain(f"the build of {name} does not end", seen=f"{_LONGEST_S:.0f} s", fix=fix)
        child.wait()
        return last

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Be the one that builds here; another is waited for, and told. Raises Cancelled, CannotCreate."""
        folder = self.store.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / LOCK).open("a+", encoding="ascii")
        except OSError as error:
            raise disk_fault(folder, error) from None
        with file:
            told = False
            while not _locked(file):
                if not told:
                    file.seek(0)
                    self.tell(f"waiting: process {file.read(20).strip() or 'unknown'} builds an engine here")
                    told = True
                if self.cancelled.wait(_LOOK_S):
                    raise Cancelled
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            yield


def _lasts(fault: AgentError) -> bool:
    """Tell whether the same build would meet the same fault again: what TensorRT says of memory it would not."""
    return isinstance(fault, BadData) and "memory" not in str(fault.seen).lower()


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lines(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield the lines that `child` prints, and b"" when there was none for a while, until it closes its output."""
    if child.stdout is None:
        raise ValueError("its output is a pipe")
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(_LOOK_S):
                yield b""
                continue
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def _crash(name: str, code: int, stderr: IO[bytes]) -> AgentError:
    stderr.seek(0)
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines() if line.strip()]
    log.debug("the build of %s: %s", name, " | ".join(lines))
    if code == -signal.SIGKILL:
        fix = "stop other programs, or add swap; `edge-agent engine build` tries again"
        return TryAgain(f"the build of {name} was killed", seen="out of memory?", fix=fix)
    seen = "".join(c for c in (lines[-1] if lines else f"exit code {code}") if c.isprintable())[:200]
    how, seen = ("crashed", signal.Signals(-code).name) if code < 0 else ("failed", seen)
    return BadData(f"the build of {name} {how}", seen=seen, fix="look into the log with -vv and report it")
