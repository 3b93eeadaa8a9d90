"""What was decided and is not on disk yet: rows with their notes, notes of their own, deletions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.outbox.ledger import Lane, places

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection

    from agent.outbox.stored import Place, Stored


@dataclass(frozen=True, slots=True)
class _Word:
    """The `number`-th word on what is remembered as `key`; None: nothing any more."""

    number: int
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class _Entry:
    row: Stored
    word: _Word | None


@dataclass(frozen=True, slots=True)
class Load:
    """What goes with one commit. `words` are those of no row, `newest` has the number of the last word on each key."""

    entries: dict[Lane, list[_Entry]]
    words: dict[str, _Word]
    notes: dict[str, bytes | None]
    newest: dict[str, int]
    deleted: set[int]

    @property
    def rows(self) -> list[Stored]:
        """The rows, P0 first."""
        return [entry.row for entries in self.entries.values() for entry in entries]


class Pending:
    """Rows, notes and deletions on their way to the disk. No lock, no disk. `noted`: the notes that are there.

    A row's note goes with the row, and never takes the place of a newer one.
    """

    def __init__(self, noted: Collection[str]) -> None:
        self.gone: set[int] = set()
        self._entries: dict[Lane, deque[_Entry]] = {lane: deque() for lane in (Lane.P0, Lane.P1)}
        self._words: dict[str, _Word] = {}
        self._number = 0
        self._newest: dict[str, int] = {}  # of the words that arrived, while an older one may be waiting
        self._noted = set(noted)
        self._leaving = 0

    def __len__(self) -> int:
        return self._leaving + sum(map(len, self._entries.values()))

    def add(self, lane: Lane, row: Stored, note: tuple[str, bytes | None] | None = None) -> None:
        """Have `row` written, and with it the note of this key and value; None: it is forgotten."""
        self._entries[lane].append(_Entry(row, None if note is None else self._word(*note)))

    def note(self, key: str, value: bytes | None) -> None:
        """Have the note `key` written, or forgotten where `value` is None."""
        self._words[key] = self._word(key, value)

    def places(self) -> Counter[Place]:
        """Return how many rows of each epoch and lane wait."""
        return places(self.keys())

    def keys(self) -> set[int]:
        """Return the keys of the rows that wait."""
        return {entry.row.key for entries in self._entries.values() for entry in entries}

    def shed(self) -> int | None:
        """Give up the row that can be spared first; return its key, None when no row waits.

        What it begins is still remembered; what it would have ended is so too, for its end is lost.
        """
        entries = self._entries[Lane.P1] or self._entries[Lane.P0]
        if not entries:
            return None
        entry = entries.popleft()
        if entry.word is not None and entry.word.value is not None:
            self._keep_word(entry.word)
        return entry.row.key

    def leave(self, limit: int) -> Load:
        """Take up to `limit` rows of each lane and all else; to be answered with `arrived` or `put_back`.

        What is to be deleted stays in `gone` until it is: a read may still see it.
        """
        entries = {
            lane: [waiting.popleft() for _ in range(min(limit, len(waiting)))]
            for lane, waiting in self._entries.items()
        }
        told = [entry.word for some in entries.values() for entry in some if entry.word is not None]
        words = sorted([*told, *self._words.values()], key=lambda word: word.number)
        last = {word.key: word for word in words if word.number >= self._newest.get(word.key, 0)}
        notes = {
            key: word.value for key, word in last.items() if word.value is not None or key in self._noted
        }
        newest = {key: word.number for key, word in last.items()}
        load = Load(entries, self._words, notes, newest, set(self.gone))
        self._words, self._leaving = {}, sum(map(len, entries.values()))
        self._noted |= notes.keys()
        return load

    def arrived(self, load: Load) -> None:
        """Note that `load` is on disk."""
        self._leaving = 0
        self.gone -= load.deleted
        self._noted -= {key for key, value in load.notes.items() if value is None}
        self._newest |= load.newest
        if not any(self._entries.values()):
            self._newest.clear()

    def put_back(self, load: Load) -> None:
        """Keep what the disk did not take."""
        self._leaving = 0
        for lane, entries in load.entries.items():
            self._entries[lane].extendleft(reversed(entries))
        for word in load.words.values():
            self._keep_word(word)

    def _word(self, key: str, value: bytes | None) -> _Word:
        self._number += 1
        return _Word(self._number, key, value)

    def _keep_word(self, word: _Word) -> None:
        """Have `word` written with the next commit, unless a newer one is."""
        known = self._words.get(word.key)
        if known is None or known.number < word.number:
            self._words[word.key] = word
