"""The contact sheet: which moment of an event is its best, and a picture with all of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent import contactsheet, drawing
from agent.contactsheet import Moment
from agent.errors import BadData, CannotCreate, InputMissing
from agent.starter import sample_clip
from agent.wire import EventMessage, FrameInfo, Model, Sampling

if TYPE_CHECKING:
    from pathlib import Path

BOX = (0.1, 0.2, 0.2, 0.5)
FIRST = EventMessage(
    schema=1,
    id="d/e/P0/1",
    type="new",
    event_id="run-cam-1",
    device="d",
    camera="cam",
    label="person",
    score=0.6,
    top_score=0.7,
    box=BOX,
    frame_size=(768, 576),
    zones=(),
    stationary=False,
    start_time="2026-01-02T03:04:05.000Z",
    end_time=None,
    time="2026-01-02T03:04:05.500Z",
    clock_synced=True,
    boot_id="b",
    mono_ns=1,
    frame=FrameInfo(seq=25, pts_s=2.5, age_ms=9.0),
    model=Model("m", 1, "0" * 64, "int8", "tflite"),
    sampling=Sampling("interval", 10.0, 0.1),
)


def message(**changes: Any) -> EventMessage:
    """Return FIRST with `changes`."""
    return msgspec.structs.replace(FIRST, **changes)


def test_the_best_moment_is_the_highest_score_but_never_the_end() -> None:
    """The frame of an "end" shows the place without the object, whatever its score says."""
    update = message(type="update", score=0.8, frame=FrameInfo(40, 4.0, 9.0), time="2026-01-02T03:04:07.000Z")
    end = message(type="end", score=0.9, frame=FrameInfo(70, 7.0, 9.0), end_time="2026-01-02T03:04:09.500Z")
    assert contactsheet.moments([FIRST, update, end]) == [
        Moment("person", 0.8, 40, 4.0, BOX, start_s=2.0, end_s=6.5)
    ]


def test_an_open_event_has_no_end_and_events_come_in_the_order_of_their_beginnings() -> None:
    """Each event is one moment; one that has not ended says so."""
    later = message(event_id="run-cam-2", frame=FrameInfo(90, 9.0, 9.0))
    found = contactsheet.moments([later, FIRST])
    assert [(moment.start_s, moment.end_s) for moment in found] == [(2.0, None), (8.5, None)]


def test_a_subscriber_that_came_late_has_the_end_alone() -> None:
    """An event of which only the end arrived is shown by that frame."""
    end = message(type="end", end_time="2026-01-02T03:04:05.250Z")
    assert [(moment.seq, moment.end_s) for moment in contactsheet.moments([end])] == [(25, 2.25)]


def test_the_sheet_shows_every_moment_in_its_own_tile(tmp_path: Path) -> None:
    """Tiles are of one size and in a grid, and the box is drawn where it is."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    events = [Moment("person", 0.5 + n / 10, n * 20, n * 2.0, BOX, 0.0, None) for n in range(5)]
    contactsheet.write(tmp_path / "s.png", sample_clip(), events, title="t", subtitle="s")
    sheet = cv2.imread(str(tmp_path / "s.png"))
    (tile_w, tile_h), gap, header, caption = contactsheet.TILE_PX, 16, 64, 44
    assert sheet.shape == (header + 2 * (tile_h + caption + gap), 3 * (tile_w + gap) + gap, 3)
    for column in range(3):
        corner = sheet[header + round(0.2 * tile_h), gap + column * (tile_w + gap) + round(0.15 * tile_w)]
        assert tuple(corner) == drawing.ACCENTS[0], "the top edge of the box"
    empty = sheet[-gap - caption - tile_h :, -gap - tile_w :]
    assert (empty == drawing.BACKGROUND).all(), "there is no sixth tile"


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 0.02, 0.02), (0.9, 0.9, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0), (0.3, 0.3, 0.3, 0.3)]
)
def test_boxes_at_the_edges_and_of_no_size_are_drawn(
    box: tuple[float, float, float, float], tmp_path: Path
) -> None:
    """No box makes the drawing fail."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    events = [Moment("person", 0.5, 0, 0.0, box, 0.0, 1.0)]
    contactsheet.write(tmp_path / "s.png", sample_clip(), events, title="t", subtitle="s")
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_what_can_not_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another clip, a folder that is not there, and a machine without OpenCV: each with its fix."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    events = [Moment("person", 0.5, 200, 20.0, BOX, 0.0, 1.0)]
    with pytest.raises(BadData, match="has no frame: 200; use the clip"):
        contactsheet.write(tmp_path / "s.png", sample_clip(), events, title="t", subtitle="s")
    with pytest.raises(CannotCreate, match="writable"):
        contactsheet.write(tmp_path / "no/s.png", sample_clip(), events[:0], title="t", subtitle="s")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputMissing, match="apt install python3-opencv"):
        contactsheet.write(tmp_path / "s.png", sample_clip(), events, title="t", subtitle="s")
