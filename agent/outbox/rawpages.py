"""Rows of a damaged SQLite file read page by page, without the tree that should lead to them.

After the file format of sqlite.org/fileformat2.html: table leaf pages, overflow pages, the write-ahead log.
What is found may be stale or garbage: each row tells by its CRC whether it is one.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from agent.outbox.stored import PAGE_BYTES, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_LEAF = 0x0D
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_MOST_LOCAL = PAGE_BYTES - 35
_LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_INTEGERS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
_COLUMNS = 6


def stray_rows(path: Path) -> Iterator[Stored]:
    """Yield every intact row that lies in a page of the file at `path` or of its log; some more than once."""
    with contextlib.ExitStack() as stack:
        pages = _Pages(stack.enter_context(path.open("rb")), _opened(path, stack))
        for number in pages.numbers():
            for row in _rows(pages, pages.read(number)):
                if row.intact:
                    yield row


def _opened(path: Path, stack: contextlib.ExitStack) -> BinaryIO | None:
    with contextlib.suppress(OSError):
        return stack.enter_context(path.with_name(path.name + "-wal").open("rb"))
    return None


class _Pages:
    """The pages by number, each as the log has it last; but for those that are free."""

    def __init__(self, file: BinaryIO, log: BinaryIO | None) -> None:
        self._file, self._log = file, log
        self._in_log = dict(_frames(log)) if log is not None else {}
        self._count = file.seek(0, 2) // PAGE_BYTES

    def numbers(self) -> list[int]:
        """Return the numbers of all pages in use, as far as the list of free ones can be read."""
        return sorted({*range(1, self._count + 1), *self._in_log} - self._free())

    def read(self, number: int) -> bytes:
        """Return the page; less than a page at the end of a file."""
        if self._log is not None and number in self._in_log:
            self._log.seek(self._in_log[number])
            return self._log.read(PAGE_BYTES)
        self._file.seek((number - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)

    def _free(self) -> set[int]:
        free: set[int] = set()
        with contextlib.suppress(struct.error):
            (trunk,) = struct.unpack_from(">I", self.read(1), 32)
            while trunk and trunk not in free and trunk <= self._count:
                following, count = struct.unpack_from(">II", self.read(trunk))
                free.add(trunk)
                free.update(struct.unpack_from(f">{min(count, PAGE_BYTES // 4 - 2)}I", self.read(trunk), 8))
                trunk = following
        return free


def _frames(log: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield page number and place of the pages in the log that belong to its present round."""
    salt = log.read(_LOG_HEADER_BYTES)[16:24]
    place = _LOG_HEADER_BYTES
    while len(header := log.read(_FRAME_HEADER_BYTES)) == _FRAME_HEADER_BYTES and header[8:16] == salt:
        yield int.from_bytes(header[:4], "big"), place + _FRAME_HEADER_BYTES
        place += _FRAME_HEADER_BYTES + PAGE_BYTES
        log.seek(place)


def _rows(pages: _Pages, page: bytes) -> Iterator[Stored]:
    if len(page) < PAGE_BYTES or page[0] != _LEAF:
        return
    (count,) = struct.unpack_from(">H", page, 3)
    for cell in range(min(count, PAGE_BYTES // 8)):
        with contextlib.suppress(IndexError, ValueError, struct.error):
            (at,) = struct.unpack_from(">H", page, 8 + 2 * cell)
            yield _row(pages, page, at)


def _row(pages: _Pages, page: bytes, at: int) -> Stored:
    """Return the row of the cell at `at`. Raises IndexError, ValueError or struct.error for what is none."""
    size, at = _varint(page, at)
    key, at = _varint(page, at)
    record = _record(pages, page, at, size)
    end, at = _varint(record, 0)
    types = []
    while at < end:
        kind, at = _varint(record, at)
        types.append(kind)
    if len(types) != _COLUMNS:
        raise ValueError("no message")
    values: list[object] = []
    for kind in types:
        length = _INTEGERS[kind] if kind in _INTEGERS else (kind - 12) // 2
        values.append(_value(kind, record[at : at + length]))
        at += length
    _, topic, retain, payload, offset_s, crc = values
    if not isinstance(topic, bytes) or not isinstance(payload, bytes):
        raise ValueError("no message")
    if isinstance(offset_s, int):  # a whole number is stored as one, to save room
        offset_s = float(offset_s)
    return Stored.of(key, topic, retain, payload, offset_s, crc)


def _record(pages: _Pages, page: bytes, at: int, size: int) -> bytes:
    """Return the record, with what of it lies in overflow pages."""
    if size <= _MOST_LOCAL:
        return page[at : at + size]
    local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_BYTES - 4)
    local = local if local <= _MOST_LOCAL else _LEAST_LOCAL
    record = page[at : at + local]
    (following,) = struct.unpack_from(">I", page, at + local)
    while following and len(record) < size:
        page = pages.read(following)
        (following,) = struct.unpack_from(">I", page)
        record += page[4:]
    return record[:size]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and where it ends."""
    value = 0
    for byte in range(8):
        value = value << 7 | data[at + byte] & 0x7F
        if data[at + byte] < 0x80:
            return value, at + byte + 1
    return value << 8 | data[at + 8], at + 9


def _value(kind: int, data: bytes) -> object:
    if kind == 0:
        return None
    if kind == 7:
        return struct.unpack(">d", data)[0]
    if kind in _INTEGERS:
        return {8: 0, 9: 1}.get(kind, int.from_bytes(data, "big", signed=True))
    return data
