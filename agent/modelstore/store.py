"""The device's default model, kept so that at every moment, a power cut included, one is there that runs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from agent.errors import AgentError, CannotCreate, IOFault, NotPermitted, TryAgain
from agent.modelstore.state import (
    Candidate,
    StoreState,
    begun,
    committed,
    failed,
    installed,
    left,
    moved,
    pardoned,
    present,
    released,
    rolled_back,
)
from agent.modelstore.trial import FOLDER as TRIALS
from agent.modelstore.trial import Trials, runtime
from agent.modelstore.versions import FOLDER as VERSIONS
from agent.modelstore.versions import Versions
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

FOLDER = "models"
"""In the state directory."""
STATE, LOCK, DOWNLOADS = "store.json", "lock", "downloads"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCKED_S = 10.0
"""Longest wait for another process, which has the lock for as long as a small file takes to be written."""
_LOOK_S = 0.02


class ModelStore:
    """The store in `folder`, which is made with the first model. Methods are for any thread and any process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions, self.trials = Versions(folder / VERSIONS), Trials(folder / TRIALS)

    def read(self) -> StoreState:
        """Return the state. What can't be read of it, or is not there, is told in the log, and the factory model runs.

        Raises NotPermitted.
        """
        try:
            raw = (self.folder / STATE).read_bytes()
        except FileNotFoundError:
            return StoreState()
        except PermissionError as error:
            fix = "run this as the agent's user, who must be its owner (chown -R)"
            raise NotPermitted(f"can't read {self.folder / STATE}", seen=error.strerror, fix=fix) from None
        except OSError as error:
            return self._mended(error.strerror or str(error))
        try:
            state = msgspec.json.decode(raw, type=StoreState)
        except msgspec.MsgspecError as error:
            return self._mended(str(error))
        there = self.versions.there()
        if lost := state.kept - there:
            log.error("model store: %s is not there any more", ", ".join(sha[:12] for sha in sorted(lost)))
        return present(state, there)

    @property
    def on_trial(self) -> bool:
        """Whether starts of the model that is to run were in vain: it has yet to show that it works on this runtime."""
        with contextlib.suppress(NotPermitted):
            state = moved(self.read(), runtime())
            return state.attempts > 0 and state.on_trial(runtime())
        return False

    def bundle(self) -> Path | None:
        """Return the bundle that is to run, None for the factory's. Raises NotPermitted."""
        return self._path(self.read())

    def without(self, sha: str) -> Path | None:
        """Return what is to run if the model `sha` may not, None for the factory's. Raises NotPermitted."""
        return self._path(failed(self.read(), sha, ""))

    def before(self) -> Path | None:
        """Return the bundle before the current one, None for the factory's. Raises UsageError where that runs."""
        return self._path(rolled_back(self.read()))

    def begin(self) -> Path | None:
        """Count an attempt of a model that is on trial, before it is loaded; return what is to be loaded, as `bundle`.

        One that never got to work on this runtime in three attempts makes way for the one before it. Where nothing
        can be written, a pending model does not run: nobody would know how often it was tried. Raises NotPermitted.
        """
        state, now = self.read(), runtime()
        if begun(state, now) == state:
            return self._path(state)
        try:
            after = self._change(lambda before: begun(before, now))
        except (CannotCreate, IOFault, TryAgain) as fault:
            if not state.pending:
                log.error("attempts are not counted: %s", fault)
                return self._path(moved(state, now))
            log.error("the model that was installed last is not tried: %s", fault)
            return self._path(rolled_back(state))
        if state.current and (why := after.why(state.current)):
            log.error("model %s: %s", state.current[:12], why)
        elif after.current != state.current:
            log.warning("model %s runs again: it did not work on %s", after.current, state.runtime)
        return self._path(after)

    def commit(self, sha: str) -> None:
        """Note that the model `sha`, which runs, works on this runtime. Raises AgentError."""
        self._change(lambda state: committed(state, sha, runtime()))

    def release(self, sha: str) -> None:
        """Take back an attempt of the model `sha`, which tells nothing of it. Raises AgentError."""
        self._change(lambda state: released(state, sha))

    def fail(self, sha: str, why: str) -> None:
        """Put the model `sha` into quarantine and, if it is the current one, go back. Raises AgentError.

        For one that has worked here it is that of this runtime alone.
        """
        self._change(lambda state: failed(moved(state, runtime()), sha, why))

    def leave(self, sha: str) -> None:
        """If the model `sha` is the current one, go back; it may be installed again. Raises AgentError."""
        self._change(lambda state: left(state, sha))

    def discard(self, sha: str) -> None:
        """Remove the files of the model `sha`, which are damaged, unless it runs or may again. Raises AgentError."""
        with writing(self.folder):
            if sha not in self.read().kept:
                self.versions.remove(sha)

    def rollback(self, why: str) -> Path | None:
        """Go back to the model before; return it, None for the factory's. Raises AgentError where that runs."""
        after = self._change(rolled_back)
        log.warning("rolled back to %s: %s", after.current or "the factory model", why)
        return self._path(after)

    def put(self, model: Candidate) -> StoreState:
        """Make `model`, whose bundle is in its place, the pending one. Raises AgentError."""
        return self._change(lambda state: installed(state, model))

    def pardon(self, sha: str) -> None:
        """Let the model `sha` out of quarantine. Raises AgentError."""
        self._change(lambda state: pardoned(state, sha))

    # -- parts --

    def _path(self, state: StoreState) -> Path | None:
        return None if state.current is None else self.versions.path(state.current)

    def _change(self, step: Callable[[StoreState], StoreState]) -> StoreState:
        """Do `step`, durably, while nobody else does. Raises CannotCreate, IOFault, TryAgain, NotPermitted."""
        with writing(self.folder), self._locked():
            before = self.read()
            after = step(before)
            if after != before:
                encoded = msgspec.json.format(msgspec.json.encode(after), indent=2)
                write_whole(self.folder / STATE, encoded)
            return after

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("ab") as file:
            deadline_s = time.monotonic() + _LOCKED_S
            while not try_lock(file.fileno()):
                if time.monotonic() > deadline_s:
                    fix = "another process holds it: see what hangs with `fuser`"
                    raise TryAgain(f"{self.folder / LOCK} is held", seen=f"for {_LOCKED_S:g} s", fix=fix)
                time.sleep(_LOOK_S)
            yield

    def _mended(self, why: str) -> StoreState:
        """Return the state to go on with when it can't be read: the factory model, and no older ones than were here."""
        log.error("%s can't be read (%s): the factory model runs", self.folder / STATE, why)
        state = StoreState()
        for record in filter(None, map(self.versions.record, self.versions.there())):
            state = installed(state, record.model)
        return StoreState(ratchet=state.ratchet)


def try_lock(handle: int) -> bool:
    """Take the lock of an open file if nobody has it; tell whether."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell of what goes wrong when something is written into `folder`. Raises CannotCreate, IOFault."""
    try:
        yield
    except OSError as error:
        raise disk_fault(folder, error) from None


def disk_fault(folder: Path, error: OSError) -> AgentError:
    """Return what to tell of `error`, met when a model was written into `folder`."""
    seen = error.strerror or error
    if error.errno in _FULL:
        fix = "make room, or put state_dir on a larger disk; `edge-agent model gc` removes old models"
        return CannotCreate(f"no room for a model in {folder}", seen=seen, fix=fix)
    if error.errno == errno.EIO:
        return IOFault(f"can't write models to {folder}", seen=seen, fix="the disk or card fails")
    fix = "make the state directory writable for this user"
    return CannotCreate(f"can't write models to {folder}", seen=seen, fix=fix)
