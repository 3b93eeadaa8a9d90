"""What a plan changes on a system, shown as a diff and carried out."""

from __future__ import annotations

import contextlib
import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import CannotCreate
from agent.system.plan import VENDOR_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.system.plan import File

_MODE = 0o644
_PRIVATE = 0o600
"""What is the user's own may come to hold a login; systemd-tmpfiles gives it to the group that reads it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that is to become other than it is; None: there is none."""

    file: File
    before: str | None

    @property
    def what(self) -> str:
        """What happens, in one word."""
        return "new" if self.before is None else "gone" if self.file.text is None else "changed"


def find(plan: Iterable[File], root: Path) -> tuple[Change, ...]:
    """Return what `plan` changes below `root`. Raises CannotCreate for what can't be read or leads out of it."""
    return tuple(change for file in plan if (change := _change(file, root)) is not None)


def diff(change: Change) -> str:
    """Return the unified diff."""
    path = f"/{change.file.path}"
    before, after = (_lines(text) for text in (change.before, change.file.text))
    names = (
        "/dev/null" if change.before is None else path,
        "/dev/null" if change.file.text is None else path,
    )
    return "".join(difflib.unified_diff(before, after, *names))


def carry_out(changes: Iterable[Change], root: Path) -> None:
    """Write and remove the files below `root`, each whole or not at all. Raises CannotCreate."""
    for change in changes:
        path = inside(root, change.file.path)
        with _told(path):
            if change.file.text is None:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, root)
            else:
                _write(path, change.file.text, _PRIVATE if change.file.yours else _MODE)


def inside(root: Path, name: str) -> Path:
    """Return the path below `root`. Raises CannotCreate when a link on the way leads out: into this system."""
    path = root / name
    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
        fix = "replace the link by a relative one"
        raise CannotCreate(f"{path} leads out of {root}", seen=os.path.realpath(path.parent), fix=fix)
    return path


def _change(file: File, root: Path) -> Change | None:
    path = inside(root, file.path)
    with _told(path):
        before = path.read_bytes().decode(errors="replace") if path.is_file() or path.is_symlink() else None
    kept = file.yours and before is not None
    return None if kept or before == file.text else Change(file, before)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("x", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove the folders that an installation makes, up to VENDOR_DIR, where nothing is left in them."""
    with contextlib.suppress(OSError):
        while folder.is_relative_to(root / VENDOR_DIR) and folder != root / VENDOR_DIR:
            folder.rmdir()
            folder = folder.parent


def _lines(text: str | None) -> list[str]:
    return (text or "").splitlines(keepends=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "let root write there (a read-only file system: mount -o remount,rw)"
        raise CannotCreate(str(path), seen=error.strerror or error, fix=fix) from error
