"""Writing a bundle: what a killed run left is cleared away, and a place without a name is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.bundle import MANIFEST, load_bundle
from agent.bundle.writing import check_free, write_bundle
from agent.errors import CannotCreate
from agent.starter import starter_bundle

STARTER = starter_bundle()


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    """Of this bundle, not of one whose name begins alike."""
    bundle = load_bundle(STARTER)
    left, other = tmp_path / ".out.0123abcd.part", tmp_path / ".out.2.0123abcd.part"
    for folder in (left, other):
        folder.mkdir()
        (folder / MANIFEST).write_text("")
    files = {file.name: file for file in STARTER.iterdir() if file.name != MANIFEST}
    write_bundle(tmp_path / "out", bundle.manifest, files)
    assert {file.name for file in tmp_path.iterdir()} == {"out", other.name}


@pytest.mark.parametrize("place", [".", "/", "..", "new/.."])
def test_a_place_without_a_name_is_refused(tmp_path, monkeypatch, place):
    """The current folder can't be replaced, though it may be empty."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotCreate, match="name a new directory"):
        check_free(Path(place))
    assert not list(tmp_path.iterdir())
