"""What each stage of a build made, kept under the inputs it was made of: a re-run goes on where it was stopped."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from agent.errors import CannotCreate
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


SCRATCH = ".scratch-"
"""Beginning of the names of folders that are of no use to a later build."""
_LEFT = (".*.????????.part", "int8-*/.*.????????.part", "int8-*/*.float", "int8-*/*.job")
"""Files that a killed build leaves: half-written ones, and orders to the quantizer."""


class WorkFolder:
    """A folder of results. Raises CannotCreate where it can't be made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fix = "give a folder that can be written with --work"
            raise CannotCreate(f"can't make {path}", seen=error.strerror, fix=fix) from None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other builds out meanwhile, and clear away what a killed one left. Raises CannotCreate."""
        try:
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            fix = "give a folder that can be written with --work"
            raise CannotCreate(f"can't write in {self.path}", seen=error.strerror, fix=fix) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fix = "wait for its end, or give another folder with --work"
                raise CannotCreate("another build works in", seen=self.path, fix=fix) from None
            self._clear()
            yield

    def _clear(self) -> None:
        for folder in self.path.glob(f"{SCRATCH}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for pattern in _LEFT:
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

    def file(self, name: str, inputs: object, make: Callable[[], bytes]) -> Path:
        """Return the file `name` (such as "fp32.tflite") made of `inputs`, a JSON-able value; made if it is not there.

        It appears whole or not at all. Raises what `make` does, and CannotCreate.
        """
        stem, dot, suffix = name.rpartition(".")
        file = self.path / f"{stem}-{digest(inputs)[:16]}{dot}{suffix}"
        if not file.is_file():
            write_whole(file, make())
        return file


def digest(inputs: object) -> str:
    """Return a sha256 that is the same for equal JSON-able values."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
