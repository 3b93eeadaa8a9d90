"""What comes out of a damaged file: each row arrives, or a gap tells of it; whatever bit or page is broken."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.outbox import salvage
from agent.outbox.audit import audit
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from agent.outbox.stored import PAGE_BYTES as PAGE
from agent.outbox.stored import SCHEMA
from tests.patience import HANGS_S


@dataclass(frozen=True)
class File:
    """The bytes of an outbox that was closed, the ids in it, and the page numbers of each table and of "schema"."""

    content: bytes
    ids: frozenset[str]
    epoch: str
    pages: dict[str, list[int]]
    rows: dict[str, tuple[int, int]]


def opened(path: Path) -> Outbox:
    return Outbox(path, device="dev", gap_topic="gap", boot_id="b")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> File:
    """Return an outbox of 60 messages of two lanes."""
    path, sizes = tmp_path_factory.mktemp("file") / "outbox.db", random.Random(5)

    def put(outbox: Outbox, number: int) -> str:
        size = sizes.choice([20, 200, 700])
        lane = Lane.P0 if number % 2 else Lane.P1
        return str(outbox.put(lane, "t", lambda i: str(i).encode().ljust(size)))

    with opened(path) as outbox:
        ids = frozenset(put(outbox, number) for number in range(60))
        assert outbox.flush(HANGS_S)
        epoch = outbox.epoch
    with contextlib.closing(sqlite3.connect(path)) as raw:
        roots = {root for (root,) in raw.execute("SELECT rootpage FROM sqlite_master")}
        named = dict(raw.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    content = path.read_bytes()
    pages = {name: [root] for name, root in named.items()}
    pages["schema"] = sorted({*range(1, max(roots))} - roots)
    places = {i: (content.find(i.encode().ljust(20)), len(i)) for i in ids}
    return File(content, ids, epoch, pages, places)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def zeroed(content: bytes, page: int) -> bytes:
    return content[: (page - 1) * PAGE] + bytes(PAGE) + content[page * PAGE :]


class LateError(BaseException):
    """Nothing takes it for a fault of the file."""


@contextlib.contextmanager
def within(limit_s: int) -> Iterator[None]:
    """Fail what takes longer, also in the middle of an endless loop."""

    def late(*_: object) -> None:
        raise LateError(f"not within {limit_s} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit_s)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(content: bytes) -> tuple[frozenset[str], list[dict[str, Any]]]:
    """Open an outbox on `content`; return the ids that arrive and the gaps, when all of it is delivered."""
    rows: set[str] = set()
    gaps: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, within(120):
        path = Path(folder) / "outbox.db"
        path.write_bytes(content)
        with opened(path) as outbox:
            while not outbox.idle():
                taken = outbox.take(100)
                gaps += [json.loads(m.payload) for m in taken if m.topic == "gap"]
                rows |= {m.payload.decode().strip() for m in taken if m.topic != "gap"}
                outbox.confirm([int(m.key) for m in taken])
                outbox.flush(HANGS_S)
            assert outbox.flush(HANGS_S)
        with opened(path):  # a row that a wrong key in the tree hides from its deletion is found now
            assert audit(path).holds
    return frozenset(rows), gaps


def salvage_of(path: Path) -> salvage.Found:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as target:
        target.executescript(SCHEMA)
        return salvage.carry_over(path, target, skip=(), ask=(), missing=lambda _: Counter())


def _varint(value: int) -> bytes:
    """Return `value` (from 2**56 on) as SQLite stores it, in 9 bytes."""
    head = value >> 8
    return bytes(0x80 | head >> 7 * place & 0x7F for place in range(7, -1, -1)) + bytes([value & 0xFF])


def untold(missing: frozenset[str], gaps: list[dict[str, Any]]) -> set[str]:
    """Return what of `missing` no gap tells of: each tells of as many as it counts."""
    left = Counter({number: gap["count"] for number, gap in enumerate(gaps)})
    silent = set()
    for message in sorted(missing, key=lambda i: int(i.split("/")[3])):
        _, epoch, lane, seq = message.split("/")
        for number, gap in enumerate(gaps):
            here = (gap["epoch"], gap["lane"]) == (epoch, lane) and gap["from_seq"] <= int(seq) <= gap[
                "to_seq"
            ]
            if here and left[number]:
                left[number] -= 1
                break
        else:
            silent.add(message)
    return silent


def some_bits(content: bytes, seed: int, count: int) -> list[int]:
    return random.Random(seed).sample(range(8 * len(content)), count)


def test_reading_past_one_flipped_bit_ends(file: File, tmp_path: Path) -> None:
    """Whatever bit it is."""
    path = tmp_path / "outbox.db"
    for bit in (33_049, 98_713, *some_bits(file.content, 1, 100)):
        path.write_bytes(flipped(file.content, bit))
        with within(120):
            salvage_of(path)


def test_a_broken_page_costs_no_good_row_before_it(file: File) -> None:
    """sqlite3 reads one row ahead, and keeps a good one back when that fails."""
    first = min(start for start, _ in file.rows.values())
    broken = first // PAGE + 1
    rows, gaps = outcome(zeroed(file.content, broken))
    on_page = {i for i, (start, _) in file.rows.items() if start // PAGE + 1 == broken}
    assert on_page
    assert len(file.ids - rows) <= len(on_page) + 2
    assert untold(file.ids - rows, gaps) == set()


def test_no_flipped_bit_loses_silently(file: File) -> None:
    """What does not arrive is told, by its epoch, lane and number."""
    for bit in some_bits(file.content, 2, 40):
        rows, gaps = outcome(flipped(file.content, bit))
        assert rows <= file.ids, bit
        assert untold(file.ids - rows, gaps) == set(), bit


def test_a_flipped_key_inside_the_tree(file: File) -> None:
    """A search that such a key leads astray may find a row before the one it asked for, again and again."""
    (root,) = file.pages["message"]
    page = file.content[(root - 1) * PAGE : root * PAGE]
    assert page[0] == 5
    for cell in range(0, int.from_bytes(page[3:5], "big"), 4):
        at = (root - 1) * PAGE + int.from_bytes(page[12 + 2 * cell : 14 + 2 * cell], "big") + 4
        for bit in range(8 * at, 8 * (at + 9), 5):
            rows, gaps = outcome(flipped(file.content, bit))
            assert untold(file.ids - rows, gaps) == set()


def test_the_log_of_an_emptied_file(file: File, tmp_path: Path) -> None:
    """SQLite deletes the log of an empty file; what is in it is the last that came."""
    path = tmp_path / "outbox.db"
    with opened(path) as outbox:
        sent = {str(outbox.put(Lane.P0, "t", lambda i: str(i).encode())) for _ in range(5)}
        assert outbox.flush(HANGS_S)
        log = Path(f"{path}-wal").read_bytes()
    path.write_bytes(b"")
    Path(f"{path}-wal").write_bytes(log)
    with opened(path) as outbox:
        assert {m.payload.decode() for m in outbox.take(20) if m.topic == "t"} == sent


def test_every_page_of_the_schema_can_be_missing(file: File) -> None:
    """They are the same in all outboxes; nothing is lost with them."""
    assert len(file.pages["schema"]) > 1
    for page in file.pages["schema"]:
        assert outcome(zeroed(file.content, page)) == (file.ids, []), page


def test_a_table_by_another_name(file: File) -> None:
    """A bit of a name in the schema, and SQLite opens the file as if nothing were wrong."""
    for name in (b"tableaccount", b"tablemessage", b"tableepoch"):
        at = file.content.index(name) + len(name) - 1
        assert outcome(flipped(file.content, 8 * at)) == (file.ids, []), name


def test_a_flipped_key_is_told_with_a_right_number(file: File) -> None:
    """The key of a row with a wrong CRC says nothing about which one it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.db"
        for shift in (7, 20, 39, 61, 62):
            path.write_bytes(file.content)
            with contextlib.closing(sqlite3.connect(path)) as raw, raw:
                (key,) = raw.execute(
                    "SELECT key FROM message WHERE key >> 60 = 1 LIMIT 1 OFFSET 9"
                ).fetchone()
            content = bytearray(file.content)
            at = content.rindex(_varint(key), 0, file.rows[f"dev/{file.epoch}/P0/10"][0])
            content[at : at + 9] = _varint(key ^ 1 << shift)
            rows, gaps = outcome(bytes(content))
            assert file.ids - rows == {f"dev/{file.epoch}/P0/10"}
            assert [gap["count"] for gap in gaps] == [1]
            assert untold(file.ids - rows, gaps) == set()


def test_a_wrong_row_is_told_by_its_neighbours(file: File, tmp_path: Path) -> None:
    """Found at start, it is the one number between them."""
    path = tmp_path / "outbox.db"
    content = bytearray(zeroed(file.content, file.pages["note"][0]))
    content[file.rows[f"dev/{file.epoch}/P0/10"][0]] ^= 1
    path.write_bytes(content)
    found = salvage_of(path)
    assert found.bad == {(1, Lane.P0): (10, 10, 1)}


def test_accounts_and_rows_lost_together_are_told(file: File) -> None:
    """What the numbers of the rows leave open is not taken for delivered."""
    (account,), leaves = file.pages["account"], [start // PAGE + 1 for start, _ in file.rows.values()]
    lost = 0
    for leaf in sorted(set(leaves))[::4]:
        rows, gaps = outcome(zeroed(zeroed(file.content, account), leaf))
        lost += len(file.ids - rows)
        last = {lane: max(int(i.split("/")[3]) for i in rows if f"/{lane}/" in i) for lane in ("P0", "P1")}
        missing = frozenset(i for i in file.ids - rows if int(i.split("/")[3]) <= last[i.split("/")[2]])
        assert untold(missing, gaps) == set()
        assert {(gap["epoch"], gap["lane"]) for gap in gaps} == {(file.epoch, "P0"), (file.epoch, "P1")}
    assert lost > 0


def test_rows_outside_the_tree_are_taken_where_the_accounts_are_lost(file: File) -> None:
    """How many are missing is not known then, so all of them go on."""
    (account,), (root,) = file.pages["account"], file.pages["message"]
    rows, _ = outcome(zeroed(zeroed(file.content, account), root))
    assert rows == file.ids


@pytest.mark.parametrize("foreign", [False, True], ids=["empty", "foreign"])
def test_a_file_that_is_no_outbox_is_kept_and_told(tmp_path: Path, *, foreign: bool) -> None:
    """`outbox status` calls it damaged, and so does the agent that finds it."""
    path = tmp_path / "outbox.db"
    path.touch()
    if foreign:
        with contextlib.closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("CREATE TABLE recipe (name TEXT)")
            raw.execute("INSERT INTO recipe VALUES ('soup')")
    assert audit(path).damage
    with opened(path) as outbox:
        assert outbox.state.repaired == 1
        (gap,) = outbox.take(5)
        assert json.loads(gap.payload)["epoch"] == "unknown"
    (aside,) = tmp_path.glob("outbox.db.damaged-*[0-9]")
    assert (b"soup" in aside.read_bytes()) == foreign
