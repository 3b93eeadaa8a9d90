"""A wheel, read: what it is, by what licence, and what it needs."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from agent.errors import BadData

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

_LICENCE_FILE = re.compile(
    r"[^/]+\.dist-info/(licenses/.+|(license|licence|copying|notice|authors)[^/]*)", re.IGNORECASE
)
_CLASSIFIER = "License :: "
_NAMES_OF_NONE = {"", "unknown", "none", "other/proprietary license"}
_MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel. `licence` is an SPDX expression where `is_spdx`, else what its author wrote, "" for nothing.

    `texts` are its licence files by name, `needs` the names of what it requires without an extra.
    """

    file: str
    sha256: str
    name: str
    version: str
    summary: str
    licence: str
    is_spdx: bool
    texts: tuple[tuple[str, str], ...]
    needs: tuple[str, ...]


def canonical(name: str) -> str:
    """Return the one spelling of a project's name; PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_wheel(path: Path) -> Wheel:
    """Return what the wheel `path` says of itself. Raises BadData."""
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            (metadata,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            head = HeaderParser().parsestr(archive.read(metadata).decode())
            texts = tuple(
                (entry.filename.partition("/")[2], archive.read(entry).decode(errors="replace"))
                for entry in sorted(archive.infolist(), key=lambda each: each.filename)
                if _LICENCE_FILE.fullmatch(entry.filename) and 0 < entry.file_size <= _MAX_TEXT_BYTES
            )
        name, version = head["Name"], head["Version"]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadData("not a wheel", seen=f"{path}: {error}", fix="get it anew") from error
    if not name or not version:
        raise BadData("not a wheel", seen=f"{path}: its METADATA names nothing", fix="get it anew")
    licence, is_spdx = _licence(head)
    needs = (each for each in head.get_all("Requires-Dist", []) if "extra ==" not in each.replace("'", '"'))
    return Wheel(
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        name=canonical(name),
        version=version,
        summary=" ".join((head["Summary"] or "").split()),
        licence=licence,
        is_spdx=is_spdx,
        texts=texts,
        needs=tuple(sorted({canonical(_project(each)) for each in needs})),
    )


def _project(requirement: str) -> str:
    """Return the name that a requirement begins with."""
    found = re.match(r"\s*([A-Za-z0-9][\w.-]*)", requirement)
    return found[1] if found else requirement


def _licence(head: Message) -> tuple[str, bool]:
    if expression := head["License-Expression"]:
        return expression.strip(), True
    own = (head["License"] or "").strip()
    if own and "\n" not in own and len(own) <= 100 and own.lower() not in _NAMES_OF_NONE:
        return own, False
    told = (each for each in head.get_all("Classifier", []) if each.startswith(_CLASSIFIER))
    names = [each.rpartition(" :: ")[2] for each in told]
    return " / ".join(sorted(name for name in names if name != "OSI Approved")), False
