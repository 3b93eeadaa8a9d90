"""Whole lines or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.appending import append, open_to_append

if TYPE_CHECKING:
    from pathlib import Path


def test_a_line_that_was_cut_short_is_ended_first(tmp_path: Path) -> None:
    """What follows it is whole."""
    path = tmp_path / "lines"
    path.write_bytes(b"whole\ncut")
    with open_to_append(path) as file:
        append(file, b"next\n")
    with open_to_append(path) as file:
        append(file, b"")
    assert path.read_bytes() == b"whole\ncut\nnext\n"


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the data was written and could not be brought to the disk."""

    def full(_: int) -> None:
        raise OSError("no room")

    path = tmp_path / "lines"
    path.write_bytes(b"whole\n")
    with open_to_append(path) as file:
        monkeypatch.setattr("agent.appending.os.fsync", full)
        with pytest.raises(OSError, match="no room"):
            append(file, b"next\n")
    assert path.read_bytes() == b"whole\n"
