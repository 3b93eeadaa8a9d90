"""The files a bench leaves: JSON and a picture, checked before minutes are spent on measuring."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec

from agent.bench.plot import draw
from agent.drawing import require_opencv
from agent.errors import CannotCreate

if TYPE_CHECKING:
    from pathlib import Path

    from agent.bench.report import Report


class Outputs:
    """Where the report goes. Raises InputMissing or CannotCreate at once when it could not go there."""

    def __init__(self, json_file: Path | None, plot_file: Path | None) -> None:
        self._json, self._plot = json_file, plot_file
        if plot_file is not None:
            require_opencv("--plot")
            if plot_file.suffix.lower() != ".png":
                raise CannotCreate(str(plot_file), fix="name a file that ends in .png")
        for path in (json_file, plot_file):
            if path is not None and str(path) != "-":
                _check(path)

    def write(self, report: Report) -> None:
        """Write what was asked for. Raises CannotCreate."""
        if self._json is not None:
            text = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
            if str(self._json) == "-":
                sys.stdout.buffer.write(text)
                sys.stdout.buffer.flush()
            else:
                _write(self._json, text)
        if self._plot is not None:
            _write(self._plot, draw(require_opencv("--plot"), report))


def _check(path: Path) -> None:
    """Raise CannotCreate when `path` could not be written, without touching it."""
    place = path if path.exists() else path.parent
    if path.is_dir() or not (path.exists() or path.parent.is_dir()) or not os.access(place, os.W_OK):
        raise CannotCreate(f"can't write {path}", fix="name a file in a folder that you can write")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CannotCreate(f"can't write {path}", seen=error.strerror, fix="make room on the disk") from error
