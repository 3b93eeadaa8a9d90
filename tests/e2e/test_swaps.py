"""The bench of live swaps: it runs, and sees what is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.swaps import Told, measure, told

if TYPE_CHECKING:
    from pathlib import Path


def test_swaps_lose_no_event_and_leave_nothing_open(tmp_path: Path) -> None:
    """Three swaps under two cameras: each frame is accounted for, all events come."""
    found = measure(tmp_path, swaps=3, every=2)
    assert [row.swaps for row in found.rows] == [0, 2, 3]
    assert len(found.swap_ms) == 3
    assert all(row.open < 10 for row in found.rows)
    assert found.told.events > 0
    assert (found.told.lost, found.told.broken) == (0, 0)


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (["1 new", "2 update", "3 end"], Told(3, 1, 0, 0)),
        (["1 new", "3 end"], Told(2, 1, 1, 0)),
        (["1 new", "2 update"], Told(2, 1, 0, 1)),
        (["1 new", "2 end", "3 end"], Told(3, 1, 0, 1)),
    ],
)
def test_what_is_lost_is_seen(tmp_path: Path, kinds: list[str], says: Told) -> None:
    """A number that is not there, an end that is not there or comes twice."""
    sink = tmp_path / "events.jsonl"
    numbers = [kind.split() for kind in kinds]
    lines = [{"id": f"dev/e/P0/{number}", "event_id": "x", "type": kind} for number, kind in numbers]
    sink.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert told(sink) == says
