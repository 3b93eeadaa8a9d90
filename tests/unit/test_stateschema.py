"""The version of the state directory: written once, and a newer one is left alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from agent import __version__, stateschema
from agent.errors import BadConfig

if TYPE_CHECKING:
    from pathlib import Path


def test_written_once(tmp_path: Path) -> None:
    """The first start notes it; later ones leave the file as it is."""
    state = tmp_path / "state"
    stateschema.check(state)
    assert not state.exists()
    stateschema.claim(state)
    file = state / "schema"
    assert file.read_text() == f"1\n{__version__}\n"
    before = file.stat()
    stateschema.claim(state)
    assert (file.stat().st_ino, [p.name for p in state.iterdir()]) == (before.st_ino, ["schema"])


@pytest.mark.parametrize("look", [stateschema.check, stateschema.claim])
def test_a_newer_one_is_left_alone(tmp_path: Path, look: object) -> None:
    """Code 78, with the version that wrote it; nothing is touched."""
    (tmp_path / "schema").write_text("2\n9.1.0\n")
    before = (tmp_path / "schema").stat().st_mtime_ns
    with pytest.raises(
        BadConfig, match=r"state schema 2.* knows 1; install edge-agent 9\.1\.0 or newer, or move"
    ):
        look(tmp_path)  # type: ignore[operator]
    assert [(p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()] == [("schema", before)]
    (tmp_path / "schema").write_text("3")
    with pytest.raises(BadConfig, match="install edge-agent or newer"):
        look(tmp_path)  # type: ignore[operator]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"one\n", b"0\n"])
def test_what_can_not_be_read_is_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """A damaged file does not keep a device from its work."""
    (tmp_path / "schema").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        stateschema.claim(tmp_path)
    assert (tmp_path / "schema").read_text().startswith("1\n")
    assert len(caplog.records) == (content != b"0\n")


def test_a_disk_that_refuses_is_no_fault(tmp_path: Path) -> None:
    """The outbox has its own way with that."""
    (tmp_path / "state").write_text("a file where a folder belongs")
    stateschema.claim(tmp_path / "state")
