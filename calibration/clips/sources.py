"""The files to take pictures from: found in folders, in one order, named, each content once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle.files import digest_of
from agent.errors import AgentError, InputMissing, NotPermitted
from calibration.clips.pictureset import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_BESIDE = ".cfg .csv .htm .html .ini .json .jsonl .md .npy .npz .sh .toml .txt .xml .yaml .yml .zip"
NEVER = frozenset(_BESIDE.split())
"""Endings of what lies beside clips and is none; it is passed over without a word. All else is tried."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to take pictures from; `name` is its path below the folder that was given."""

    file: Path
    name: str
    sha256: str

    @property
    def image(self) -> bool:
        """It is a single picture."""
        return self.file.suffix.lower() in IMAGES


def find(paths: Sequence[Path]) -> tuple[list[Source], list[Skipped]]:
    """Return the files of `paths`, files or folders, sorted by name, and those that can't be read or came before.

    Raises InputMissing for a path that is not there, NotPermitted for a folder that can't be listed.
    """
    found: dict[str, Source] = {}
    skipped = []
    for file, name in sorted(_files(paths), key=lambda item: (item[1], item[0])):
        try:
            sha256 = digest_of(file)
        except AgentError as error:
            skipped.append(Skipped(name, str(error.seen or error.what)))
            continue
        if sha256 in found:
            skipped.append(Skipped(name, f"the same bytes as {found[sha256].name}"))
        else:
            found[sha256] = Source(file, name, sha256)
    return list(found.values()), skipped


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    names = [path.resolve().name for path in paths]
    for path, name in zip(paths, names, strict=True):
        if path.is_dir():
            prefix = "" if len(paths) == 1 else f"{name if names.count(name) == 1 else path}/"
            yield from ((file, prefix + str(file.relative_to(path))) for file in _below(path))
        elif path.exists():
            yield path, name if names.count(name) == 1 else str(path)
        else:
            raise InputMissing("no such clips", seen=path, fix="give folders of clips or images, or files")


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        fix = "make it readable for this user"
        raise NotPermitted(f"can't list {error.filename}", seen=error.strerror, fix=fix)

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(root, name)
            if not name.startswith(".") and file.suffix.lower() not in NEVER and file.is_file():
                yield file
