"""A damaged outbox, at start and while running: what is good arrives, the rest is told, and it goes on."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.outbox.audit import audit
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from agent.outbox.stored import PAGE_BYTES as PAGE
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S

Damage = Callable[[Path], None]


def opened(folder: Path, **more: Any) -> Outbox:
    """Return an outbox in `folder`."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", boot_id="b", **more)


def fill(outbox: Outbox, count: int = 300) -> list[str]:
    """Put events of two lanes of a real size, each with a note, and return their ids."""

    def put(lane: Lane, number: int) -> str:
        note = Note(f"event/{number % 7}", keep=True)
        return str(outbox.put(lane, "t", lambda i: str(i).encode().ljust(700), note=note))

    ids = [put(Lane.P0 if number % 3 else Lane.P1, number) for number in range(count)]
    assert outbox.flush(HANGS_S)
    return ids


def drain(outbox: Outbox) -> tuple[list[str], list[dict[str, Any]]]:
    """Take and confirm until nothing is left; return the ids and the gaps."""
    rows: list[str] = []
    gaps: list[dict[str, Any]] = []

    def idle() -> bool:
        taken = outbox.take(50)
        gaps.extend(json.loads(m.payload) for m in taken if m.topic == "gap")
        rows.extend(m.payload.decode().strip() for m in taken if m.topic != "gap")
        outbox.confirm([int(m.key) for m in taken])
        assert outbox.flush(HANGS_S)
        return outbox.idle()

    wait_for(idle, HANGS_S, "the outbox to be empty")
    return rows, gaps


def explained(missing: set[str], gaps: list[dict[str, Any]]) -> bool:
    """Return whether `gaps` tell of all `missing` ids, by epoch, lane, number and range."""
    places = Counter(tuple(i.split("/")[1:3]) for i in missing)
    told: Counter[tuple[str, ...]] = Counter()
    for gap in gaps:
        told[gap["epoch"], gap["lane"]] += gap["count"]
    ranges = [(g["epoch"], g["lane"], g["from_seq"], g["to_seq"]) for g in gaps if g["reason"] == "corrupt"]

    def covered(message: str) -> bool:
        _, epoch, lane, seq = message.split("/")
        return any((epoch, lane) == (e, at) and low <= int(seq) <= high for e, at, low, high in ranges)

    return told == places and all(map(covered, missing))


def header_garbage(path: Path) -> None:
    _patch(path, 0, b"garbage!" * 12)


def first_page_zeroed(path: Path) -> None:
    _patch(path, 0, bytes(PAGE))


def page_zeroed(path: Path) -> None:
    _patch(path, 30 * PAGE, bytes(PAGE))


def root_zeroed(path: Path) -> None:
    _patch(path, PAGE, bytes(PAGE))


def pages_garbage(path: Path) -> None:
    for page in (12, 13, 25, 31):
        _patch(path, page * PAGE, random.Random(page).randbytes(PAGE))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def bits_flipped(path: Path) -> None:
    content, rng = bytearray(path.read_bytes()), random.Random(4)
    for _ in range(20):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def books_garbage(path: Path) -> None:
    """Every table but that of the messages holds nonsense."""
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE epoch SET name = x'ff00', number = number + 7")
        raw.execute("UPDATE account SET allocated = 'many', confirmed = -5")
        raw.execute("UPDATE note SET value = 'x'")
    raw.close()


def tables_garbage(path: Path) -> None:
    """Every table holds rows of nonsense beside the good ones."""
    with sqlite3.connect(path) as raw:
        for key in (-5, 7, 3 << 60, (1 << 60) + 12345):
            raw.execute("INSERT INTO message VALUES (?, 'a', 'b', 'c', 'd', 'e')", [key])
        raw.execute("INSERT INTO epoch VALUES (99, x'ff', 1.5, 'x')")
        raw.execute("INSERT INTO account VALUES ('a', 'b', 'c', 1, 2, 3, 4, 5)")
        raw.execute("INSERT INTO note VALUES ('a', 'b', 'c')")
    raw.close()


def tables_missing(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE account")
        raw.execute("DROP TABLE epoch")
    raw.close()


def _patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


BOOKS_READABLE: list[Damage] = [
    page_zeroed,
    root_zeroed,
    pages_garbage,
    tables_garbage,
    header_garbage,
    first_page_zeroed,
]
ANY: list[Damage] = [*BOOKS_READABLE, truncated, bits_flipped, books_garbage, tables_missing]


@pytest.mark.parametrize("damage", ANY)
def test_damage_at_start(tmp_path: Path, damage: Damage) -> None:
    """The good rows arrive once, under their own ids; what the accounts can tell is told as a gap."""
    with opened(tmp_path) as outbox:
        sent = fill(outbox)
        assert outbox.flush(HANGS_S)
        epoch = outbox.epoch
    damage(tmp_path / "outbox.db")
    with opened(tmp_path) as outbox:
        assert outbox.epoch != epoch
        assert outbox.left.keys() <= {f"event/{n}" for n in range(7)}
        after = fill(outbox, 5)
        rows, gaps = drain(outbox)
        assert outbox.state.repaired
        assert len(rows) == len(set(rows))
        assert set(after) <= set(rows) <= {*sent, *after}
        missing = set(sent) - set(rows)
        if damage in BOOKS_READABLE:
            assert len(missing) < 40
            assert explained(missing, gaps)
        else:
            assert not missing or gaps
        assert audit(tmp_path / "outbox.db").holds
    assert len(list(tmp_path.glob("outbox.db.damaged-*[0-9]"))) == 1
    with opened(tmp_path) as outbox:
        assert not outbox.state.repaired
        assert outbox.idle()


def test_a_torn_journal_loses_only_its_last_commit(tmp_path: Path) -> None:
    """A power cut in the middle of a commit: all before it is there, nothing is damaged."""
    torn = tmp_path / "torn"
    torn.mkdir()
    with opened(tmp_path) as outbox:
        sent = fill(outbox, 30)
        before = (tmp_path / "outbox.db-wal").stat().st_size
        fill(outbox, 3)
        wal = (tmp_path / "outbox.db-wal").read_bytes()
        (torn / "outbox.db").write_bytes((tmp_path / "outbox.db").read_bytes())
        (torn / "outbox.db-wal").write_bytes(wal[: before + 5000])
    with opened(torn) as outbox:
        rows, gaps = drain(outbox)
        assert (sorted(rows), gaps, outbox.state.repaired) == (sorted(sent), [], 0)


def test_an_empty_file_and_a_directory(tmp_path: Path) -> None:
    """What was in the file nobody knows, which is told; a directory in its place is set aside."""
    (tmp_path / "outbox.db").touch()
    with opened(tmp_path) as outbox:
        rows, gaps = drain(outbox)
        assert (rows, [gap["epoch"] for gap in gaps]) == ([], ["unknown"])
    (tmp_path / "other" / "outbox.db" / "inner").mkdir(parents=True)
    with opened(tmp_path / "other") as outbox:
        sent = fill(outbox, 3)
        assert drain(outbox)[0] == [sent[1], sent[2], sent[0]] or outbox.idle()
    assert next((tmp_path / "other").glob("*.damaged-*")).is_dir()


@pytest.mark.parametrize("damage", [header_garbage, page_zeroed, pages_garbage, bits_flipped, truncated])
def test_damage_while_running(tmp_path: Path, damage: Damage) -> None:
    """Neither side of the outbox fails; what was lost is counted from memory and told, by number."""
    path = tmp_path / "outbox.db"
    with opened(tmp_path) as outbox:
        sent = fill(outbox, 1500)
        under_way = outbox.take(20)
        epoch = outbox.epoch
        checkpoint(path)
        damage(path)
        after = [str(outbox.put(Lane.P0, "t", lambda i: str(i).encode())) for _ in range(5)]
        wait_for(
            lambda: outbox.take(0, rest=0) == [] and (outbox.release_all() or drain_some(outbox)),
            HANGS_S,
            "repair",
        )
        outbox.release_all()
        rows, gaps = drain(outbox)
        assert outbox.epoch != epoch
        assert outbox.state.repaired
        missing = {*sent, *after} - set(rows)
        assert explained(missing, gaps)
        assert len(rows) == len(set(rows))
        counts = outbox.counts()
        assert counts[Lane.P0].corrupt + counts[Lane.P1].corrupt == len(missing)
        assert audit(path).holds
    assert under_way


def drain_some(outbox: Outbox) -> bool:
    """Look through the rows until the damage is met and repaired."""
    while outbox.take(200):
        pass
    outbox.flush(HANGS_S)
    return bool(outbox.state.repaired)


def checkpoint(path: Path) -> None:
    """Bring the journal into the file, and have the outbox read all of it from there again."""
    raw = sqlite3.connect(path, timeout=HANGS_S, isolation_level=None)
    raw.execute("UPDATE account SET crc = crc")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


def test_three_damaged_files_are_kept(tmp_path: Path) -> None:
    """The oldest goes first, with its journal."""
    for number in range(5):
        (tmp_path / "outbox.db").write_bytes(b"garbage %d " % number * 999)
        opened(tmp_path).close()
    kept = sorted(tmp_path.glob("outbox.db.damaged-*"))
    assert [path.read_bytes()[8:9] for path in kept] == [b"2", b"3", b"4"]


@pytest.mark.parametrize("moment", range(4))
def test_a_crash_while_the_file_is_replaced(tmp_path: Path, moment: int) -> None:
    """Killed before each step of a repair: the next start finds all rows, once."""
    with opened(tmp_path) as outbox:
        sent = fill(outbox, 60)
    tables_garbage(tmp_path / "outbox.db")
    script = f"""
import os, sys
from pathlib import Path
from agent.outbox import replacing
steps = {moment}
def step(function):
    def counted(*given, **more):
        global steps
        if steps == 0: os._exit(9)
        steps -= 1
        return function(*given, **more)
    return counted
replacing._sync = step(replacing._sync)
Path.rename = step(Path.rename)
from agent.outbox.outbox import Outbox
Outbox(Path(sys.argv[1]), device="dev", gap_topic="gap")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "outbox.db"], check=False, timeout=HANGS_S
    )
    assert ended.returncode == 9
    with opened(tmp_path) as outbox:
        rows, _ = drain(outbox)
        assert sorted(rows) == sorted(sent)


def test_a_file_of_the_first_version_is_carried_over(tmp_path: Path) -> None:
    """Its rows go on under their ids and nothing is kept aside; the numbers before are known."""
    import zlib

    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as raw:
        raw.executescript(
            "CREATE TABLE message (key INTEGER PRIMARY KEY, topic TEXT NOT NULL, retain INTEGER NOT NULL,"
            " payload BLOB NOT NULL, crc INTEGER NOT NULL);"
            "CREATE TABLE epoch (number INTEGER PRIMARY KEY, name TEXT NOT NULL);"
            "CREATE TABLE last_seq (epoch INTEGER NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL,"
            " PRIMARY KEY (epoch, lane)) WITHOUT ROWID;"
            "INSERT INTO epoch VALUES (3, 'old'); INSERT INTO last_seq VALUES (3, 1, 9);"
        )
        key = 1 << 60 | 3 << 38 | 8
        crc = zlib.crc32(b"payload", zlib.crc32(b"t", zlib.crc32(str(key).encode())))
        raw.execute("INSERT INTO message VALUES (?, 't', 0, ?, ?)", [key, b"payload", crc])
    raw.close()
    with opened(tmp_path) as outbox:
        assert outbox.previous is not None
        assert (outbox.previous.epoch, outbox.previous.last_seq) == ("old", {"P0": 9})
        assert drain(outbox) == (["payload"], [])
        assert audit(path).holds
    assert sorted(file.name for file in tmp_path.glob("*.damaged*")) == []
