"""The engines that were built on this device: each in a directory of its own, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.enginestore.key import Failure, Key, Record, due
from agent.errors import CannotCreate, IOFault, NotPermitted
from agent.wholefile import sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.enginestore.key import Target
    from agent.errors import AgentError

log = logging.getLogger(__name__)

FOLDER = "engines"
"""In the state directory."""
QUOTA_BYTES = 1 << 30
PLAN, RECORD, TIMING = "plan", "engine.json", "timing"
"""The files of a draft; the timings do not stay with the engine."""
LOCK = "lock"
"""Held by the process that builds."""
_FAILED, _TIMING, _PART = ".failed.json", ".timing", ".part"
_AS_ITS_USER = "do it as the agent's user: sudo -u edge-agent edge-agent engine ..."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Entry(NamedTuple):
    """One directory of the store. `record` None: it can't be read."""

    folder: Path
    record: Record | None
    size_bytes: int
    used_s: float


class EngineStore:
    """The engines in `folder`, which is made when the first is built.

    An engine that was read here stays, for `collect` of any process, as long as this store lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, key: Key) -> bool:
        """Tell whether there is an engine for `key`; whether it is sound, `read` tells."""
        return os.access(self.place(key) / RECORD, os.R_OK)

    def record(self, key: Key) -> Record | None:
        """Return what was written of the engine for `key`, None if that can't be read or is of another."""
        record = _read_record(self.place(key))
        return record if record is not None and record.key == key else None

    def read(self, key: Key) -> bytes | None:
        """Return the engine for `key`, its hash checked; what is damaged is thrown away with a line in the log."""
        place, record = self.place(key), self.record(key)
        if not self.has(key):
            return None
        try:
            plan = (place / PLAN).read_bytes()
        except OSError as error:
            self.remove(key, error.strerror or str(error))
            return None
        if record is None:
            self.remove(key, "its record is not that of this engine")
        elif len(plan) != record.plan_bytes:
            self.remove(key, f"{len(plan)} bytes of {record.plan_bytes}")
        elif hashlib.sha256(plan).hexdigest() != record.plan_sha256:
            self.remove(key, "wrong sha256")
        else:
            self._hold(place / RECORD)
            return plan
        return None

    def remove(self, key: Key, why: str) -> None:
        """Throw the engine for `key` away."""
        log.warning("engine %s is thrown away, to be built anew: %s", key.digest, why)
        shutil.rmtree(self.place(key), ignore_errors=True)

    # -- building --

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Give a directory of the store to build in; it is gone afterwards. Raises CannotCreate, IOFault."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(f"*{_PART}"):  # of a build that was killed; the lock is ours
                shutil.rmtree(left, ignore_errors=True)
            part = self.folder / f"{secrets.token_hex(4)}{_PART}"
            part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def commit(self, draft: Path, record: Record) -> None:
        """Put the engine in `draft` in its place, durably. Raises CannotCreate, IOFault."""
        with self._writing():
            (draft / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
            for written in (draft / PLAN, draft / RECORD, draft):
                sync(written)
            place = self.place(record.key)
            if place.exists():  # not readable as an engine, else it would not have been built
                shutil.rmtree(place)
            draft.rename(place)
            sync(self.folder)

    def timing_cache(self, target: Target) -> Path:
        """Return where TensorRT's timings for `target` are kept."""
        return self.folder / f"{target.digest}{_TIMING}"

    def keep_timing_cache(self, target: Target, content: Path) -> None:
        """Put `content`, a file of a draft, in the place of the timings for `target`. Raises CannotCreate, IOFault."""
        with self._writing():
            sync(content)
            content.replace(self.timing_cache(target))

    # -- failures --

    def failure(self, key: Key, trial: str) -> Failure | None:
        """Return why there is no engine for `key`, as long as another try is not due and `trial` was the same."""
        try:
            failure = msgspec.json.decode(self._failed(key).read_bytes(), type=Failure)
        except (OSError, msgspec.MsgspecError):
            return None
        return None if failure.trial != trial or due(failure, time.time()) else failure

    def remember(self, key: Key, trial: str, artifact: str, why: str, *, lasting: bool) -> None:
        """Note a failure (see Failure), so that not every start tries again; a disk that refuses is only told."""
        failure = Failure(key, trial, artifact, why, time.time(), lasting)
        file = self._failed(key)
        part = file.with_suffix(_PART)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.encode(failure))
            sync(part)
            part.replace(file)
        except OSError as error:
            log.warning("can't note that %s could not be built: %s", artifact, error.strerror)

    def forget(self, key: Key) -> None:
        """Forget a failure: it is to be tried again."""
        self._failed(key).unlink(missing_ok=True)

    # -- all of them --

    def entries(self) -> list[Entry]:
        """Return all engines, the one used last first. Raises NotPermitted."""
        found = []
        try:
            folders = list(self.folder.iterdir()) if self.folder.is_dir() else []
        except OSError as error:
            raise NotPermitted(
                f"can't look into {self.folder}", seen=error.strerror, fix=_AS_ITS_USER
            ) from None
        for folder in folders:
            if folder.is_dir() and not folder.name.endswith(_PART):
                with contextlib.suppress(OSError):
                    size_bytes = sum(file.stat().st_size for file in folder.iterdir())
                    found.append(Entry(folder, _read_record(folder), size_bytes, folder.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.used_s, reverse=True)

    def collect(self, target: Target | None, *, most_bytes: int = QUOTA_BYTES) -> list[Entry]:
        """Remove engines for another target than `target`, then those used longest ago, down to `most_bytes`.

        One in use by any process stays. Returns what is gone. Without a `target` none counts as of another.
        Raises NotPermitted.
        """
        entries, removed = self.entries(), []
        drafts = [part for part in self.folder.glob(f"*{_PART}") if part.is_dir()]
        if not _in_use(self.folder / LOCK):  # so they are of builds that were killed
            for draft in drafts:
                shutil.rmtree(draft, ignore_errors=True)
        left_bytes = sum(entry.size_bytes for entry in entries)
        for entry in reversed(entries):
            foreign = entry.record is None or (target is not None and entry.record.key.target != target)
            if (foreign or left_bytes > most_bytes) and not _in_use(entry.folder / RECORD):
                _discard(entry.folder)
                left_bytes -= entry.size_bytes
                removed.append(entry)
        for file in self.folder.glob(f"*{_FAILED}"):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                if target and msgspec.json.decode(file.read_bytes(), type=Failure).key.target != target:
                    file.unlink()
        for file in self.folder.glob(f"*{_TIMING}"):
            if target and file != self.timing_cache(target):
                with contextlib.suppress(OSError):
                    file.unlink()
        return removed

    # -- parts --

    def place(self, key: Key) -> Path:
        """Return the folder of the engine for `key`, which need not be there."""
        return self.folder / key.digest

    def _failed(self, key: Key) -> Path:
        return self.folder / f"{key.digest}{_FAILED}"

    def _hold(self, record: Path) -> None:
        """Mark the engine as in use by this process, and as used now."""
        with contextlib.suppress(OSError):
            handle = os.open(record, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.utime(record.parent)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_fault(self.folder, error) from None


def disk_fault(folder: Path, error: OSError) -> AgentError:
    """Return what to tell of `error`, met when an engine was written into `folder`."""
    if error.errno in _FULL:
        fix = "make room, or put state_dir on a larger disk; `edge-agent engine gc` removes old engines"
        return CannotCreate(f"no room for an engine in {folder}", seen=error.strerror, fix=fix)
    if error.errno == errno.EIO:
        return IOFault(f"can't write engines to {folder}", seen=error.strerror, fix="the disk or card fails")
    fix = "make the state directory writable for this user"
    return CannotCreate(f"can't write engines to {folder}", seen=error.strerror or error, fix=fix)


def _discard(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # another process was quicker
        pass
    except OSError as error:
        raise NotPermitted(f"can't remove {folder}", seen=error.strerror, fix=_AS_ITS_USER) from None


def _read_record(folder: Path) -> Record | None:
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def _in_use(record: Path) -> bool:
    try:
        with record.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
