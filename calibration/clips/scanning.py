"""Looks at the pictures of a file a few times a second; what was seen is kept, so that no file is read twice."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import msgspec
import numpy as np

from agent.capture import open_source
from agent.errors import AgentError
from agent.wholefile import write_whole
from calibration.clips.looks import Looks, flaw_in, joined, look_at

if TYPE_CHECKING:
    from pathlib import Path

    from calibration.clips.sources import Source

LOOK_S = 0.19
"""A clip is looked at so often: a little less than a fifth, so that all of 5 frames a second count."""
MAX_LOOKS = 2000
"""Of one clip; of a longer one every second, every third ... is kept."""
_FORMAT = 2


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What a file showed: `left_out` counts pictures by their flaw, `fault` says why there is nothing at all."""

    source: Source
    looks: Looks | None
    left_out: dict[str, int]
    fault: str = ""


class _Facts(msgspec.Struct, frozen=True):
    format: int
    left_out: dict[str, int]


def scan(source: Source, work: Path) -> Scan:
    """Return what `source` shows, found again in `work` if it was looked at before. Raises CannotCreate.

    A fault is not kept: it may have been the machine's (too many open files) and not the file's.
    """
    kept = work / f"{source.sha256}.npz"
    known = _read(kept, source)
    if known is None:
        known = _look_through(source)
        if known.looks is not None:
            write_whole(kept, _packed(known.looks, known.left_out))
    return known


def _look_through(source: Source) -> Scan:
    rows: list[Looks] = []
    flaws: Counter[str] = Counter()
    try:
        opened = open_source(str(source.file), camera=source.name, pace="fastest")
        try:
            next_s = float("-inf")
            for frame in opened.frames():
                if frame.pts_s < next_s:
                    continue
                next_s = frame.pts_s + LOOK_S
                if flaw := flaw_in(frame.picture):
                    flaws[flaw] += 1
                else:
                    rows.append(look_at(frame.picture, frame.seq, frame.pts_s, rows[-1] if rows else None))
                if source.image:  # of several pages the first
                    break
        finally:
            opened.close()
    except AgentError as error:
        return Scan(source, None, {}, error.what)
    except (av.FFmpegError, ValueError) as error:
        return Scan(source, None, {}, f"its pictures can't be read ({error})")
    left_out = dict(flaws)
    if not rows:
        return Scan(source, None, left_out, f"shows nothing: {', '.join(left_out)}")
    return Scan(source, joined(rows[:: every(len(rows), MAX_LOOKS)]), left_out)


def every(rows: int, most: int) -> int:
    """Return 1 for each, 2 for every second ... of `rows`, so that no more than `most` are left."""
    return max(1, -(-rows // most))


def _packed(looks: Looks, left_out: dict[str, int]) -> bytes:
    facts = msgspec.json.encode(_Facts(_FORMAT, left_out))
    columns: dict[str, Any] = looks.columns()
    raw = io.BytesIO()
    np.savez(raw, facts=np.frombuffer(facts, np.uint8), **columns)
    return raw.getvalue()


def _read(file: Path, source: Source) -> Scan | None:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        facts = msgspec.json.decode(columns.pop("facts").tobytes(), type=_Facts)
        if facts.format != _FORMAT:
            return None
        return Scan(source, Looks(**columns), facts.left_out)
    except Exception:  # noqa: BLE001 - of damaged bytes NumPy and zipfile raise a dozen kinds
        return None
