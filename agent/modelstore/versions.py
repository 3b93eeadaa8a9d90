"""The bundles in the store: each in a directory by the sha256 of its model.toml, whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import shutil
import time
from typing import TYPE_CHECKING

import msgspec

from agent.bundle import MANIFEST, load_bundle, parse_manifest
from agent.bundle.files import digest_of, read_file
from agent.bundle.trust import SIGNATURE
from agent.errors import AgentError, BadData
from agent.modelstore.state import Candidate
from agent.wholefile import sync
from agent.wire import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.bundle import Bundle

log = logging.getLogger(__name__)

FOLDER, RECORD, PART = "versions", "installed.json", ".part"
_SHA = re.compile(r"[0-9a-f]{64}")
FOR_PEOPLE = ("report.json", "report.html", "LICENSE", "LICENSE.txt", "LICENCE", "NOTICE", "README.md")
"""What a bundle may hold beside what its manifest lists."""


class Record(msgspec.Struct, frozen=True):
    """What is written beside a bundle: what it is, where it came from, and when, UTC, RFC 3339."""

    model: Candidate
    source: str
    size_bytes: int
    time: str


class Versions:
    """The directories below `folder`, which is made with the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha: str) -> Path:
        """Return where the bundle `sha` is or would be."""
        return self.folder / sha

    def there(self) -> frozenset[str]:
        """Return all bundles that are in the store."""
        with contextlib.suppress(OSError):
            found = (place for place in self.folder.iterdir() if _SHA.fullmatch(place.name))
            return frozenset(place.name for place in found if _is_file(place / MANIFEST))
        return frozenset()

    def record(self, sha: str) -> Record | None:
        """Return what was written of the bundle `sha`, None if that can't be read."""
        try:
            return msgspec.json.decode((self.path(sha) / RECORD).read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Give a directory to make a bundle in; it is gone afterwards. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.leftovers():  # of one that was killed; the caller is the only one here
            shutil.rmtree(left, ignore_errors=True)
        part = self.folder / f"{secrets.token_hex(4)}{PART}"
        part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def place(self, draft: Path, model: Candidate, source: str) -> Path:
        """Put the checked bundle in `draft` in its place, durably; a sound one that is there stays. Raises OSError."""
        place = self.path(model.sha)
        signed = (place / SIGNATURE).exists() or not (draft / SIGNATURE).exists()
        if signed and self._sound(place):
            return place
        if place.exists():
            place.rename(self.folder / f"{secrets.token_hex(4)}{PART}")
        size_bytes = sum(file.stat().st_size for file in draft.iterdir())
        record = Record(model, source, size_bytes, rfc3339(time.time()))
        (draft / RECORD).write_bytes(msgspec.json.encode(record))
        for written in (*draft.iterdir(), draft):
            sync(written)
        draft.rename(place)
        sync(self.folder)
        return place

    def whole(self, sha: str) -> bool:
        """Tell whether no file of the bundle `sha` is lost or other than it was; so is what can't be looked at."""
        place = self.path(sha)
        if not _is_whole(place / MANIFEST, sha):
            return False
        try:
            files = parse_manifest(read_file(place, MANIFEST)).digests
        except AgentError:
            return True
        return all(_is_whole(place / name, digest) for name, digest in files.items())

    def remove(self, sha: str) -> None:
        """Remove the bundle `sha`; it is gone as a whole or not at all. Raises OSError."""
        part = self.folder / f"{secrets.token_hex(4)}{PART}"
        self.path(sha).rename(part)
        shutil.rmtree(part)

    def leftovers(self) -> list[Path]:
        """Return what was begun and not ended."""
        return sorted(self.folder.glob(f"*{PART}"))

    def _sound(self, place: Path) -> bool:
        if not place.exists():
            return False
        try:
            load_bundle(place).golden()
        except AgentError as fault:
            log.warning("the bundle in %s is written anew: %s", place, fault)
            return False
        return True


def _is_file(path: Path) -> bool:
    """Tell whether a file is there; one that can't be looked at is: what is wrong with it is told as it is opened."""
    try:
        return path.is_file()
    except OSError:
        return True


def _is_whole(file: Path, sha256: str | None) -> bool:
    """Tell whether a file is there and can be read to its end, as what it was; so is one that can't be looked at."""
    try:
        return _is_file(file) and (sha256 is None or digest_of(file) == sha256.lower())
    except BadData:
        return False
    except AgentError:
        return True


def identify(bundle: Bundle) -> Candidate:
    """Return what the store calls a loaded bundle. Raises OSError."""
    sha = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    signed, manifest = bundle.origin.signed, bundle.manifest
    return Candidate(sha, signed.key if signed else "", manifest.name, manifest.version)


def listed(bundle: Bundle) -> list[str]:
    """Return the names of the files that belong to a loaded bundle and are there."""
    manifest = bundle.manifest
    own = (manifest.labels, manifest.decoder.anchors, manifest.golden, *(a.file for a in manifest.artifact))
    named = dict.fromkeys(filter(None, (MANIFEST, SIGNATURE, *own, *FOR_PEOPLE)))
    return [name for name in named if (bundle.path / name).is_file()]
