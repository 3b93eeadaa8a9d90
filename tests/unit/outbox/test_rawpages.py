"""Rows read from the pages of a file, without its tree: all that SQLite would find, whatever their size."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.outbox.rawpages import stray_rows
from agent.outbox.stored import PAGE_BYTES, SCHEMA, Stored, insert

rows = st.builds(
    Stored,
    key=st.integers(1, (1 << 62) - 1),
    topic=st.text(max_size=300),
    retain=st.booleans(),
    payload=st.binary(max_size=3000),
    offset_s=st.none() | st.floats(allow_nan=False),
)


def written(folder: str, stored: list[Stored], mode: str) -> Path:
    """Return a file with these rows."""
    path = Path(folder) / "outbox.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(SCHEMA)
    insert(connection, stored)
    copy = Path(folder) / "copy.db"
    for part in ("", "-wal"):
        if (beside := Path(f"{path}{part}")).exists():
            Path(f"{copy}{part}").write_bytes(beside.read_bytes())
    connection.close()
    return copy


@given(st.lists(rows, max_size=12, unique_by=lambda row: row.key), st.sampled_from(["OFF", "WAL"]))
@example(
    [Stored(1, "t", retain=False, payload=bytes(size)) for size in (440, 480, 520, 1030, 70_000)][-1:], "WAL"
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_found(stored: list[Stored], mode: str) -> None:
    """Large ones lie in overflow pages; those of the last commits in the log."""
    with tempfile.TemporaryDirectory() as folder:
        found = {row.key: row for row in stray_rows(written(folder, stored, mode))}
    assert found == {row.key: row for row in stored}


@given(
    st.lists(rows, min_size=3, max_size=8, unique_by=lambda row: row.key), st.randoms(use_true_random=False)
)
@settings(max_examples=60, deadline=None)
def test_damage_yields_fewer_rows_and_never_wrong_ones(stored: list[Stored], rng: object) -> None:
    """Whatever bytes are garbage, no fault, and each row that is found is one that was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, stored, "OFF")
        content = bytearray(path.read_bytes())
        for _ in range(40):
            content[rng.randrange(len(content))] = rng.randrange(256)  # type: ignore[attr-defined]
        path.write_bytes(content)
        found = list(stray_rows(path))
    assert all(row in stored for row in found)
