"""The annotated frame: what is drawn where, and what counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.check import model, picture
from agent.config import Detect, Zone
from agent.drawing import ACCENTS
from agent.errors import CannotCreate
from agent.messages import Detections, Frame
from agent.starter import sample_clip, starter_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from agent.check.camera import Observation
    from agent.check.model import OpenModel

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

MASK = ((0.0, 0.0), (0.3, 0.0), (0.3, 0.3), (0.0, 0.3))
DOOR = Zone("door", ((0.4, 0.4), (0.9, 0.4), (0.9, 0.95), (0.4, 0.95)))


@pytest.fixture(scope="module")
def starter():
    """Open the starter model."""
    opened = model.open_and_time(starter_bundle())
    yield opened
    opened.engine.close()


@pytest.fixture(scope="module")
def frame() -> Frame:
    """Return a frame of the sample clip with people in it."""
    from agent.capture import open_source

    source = open_source(str(sample_clip()), camera="yard", pace="fastest")
    try:
        return next(frame for frame in source.frames() if frame.seq == 30)
    finally:
        source.close()


def near(pixel, colour) -> bool:
    """JPEG keeps colours roughly."""
    return bool(np.abs(np.asarray(pixel, int) - np.asarray(colour, int)).max() < 60)


def test_zones_masks_and_people_are_drawn(
    tmp_path: Path, camera, observation, starter: OpenModel, frame: Frame
) -> None:
    """The zone's edge has its colour, the mask is tinted, the line stands above, and people are counted."""
    detect = Detect(zones=(DOOR,), masks=(MASK,), threshold=0.4)
    seen: Observation = observation(None, frame=frame)
    path, people = picture.save(tmp_path / "new", camera(detect=detect), seen, starter)
    drawn = cv2.imread(str(path))
    width, height = 960, round(576 * 960 / 768)
    assert path == tmp_path / "new" / "yard.jpg"
    assert drawn.shape == (height + 40, width, 3)
    assert 1 <= people <= 12
    assert near(drawn[40 + round(0.95 * (height - 1)), round(0.65 * width)], ACCENTS[1])
    assert drawn[150, 150, 2] - drawn[150, 150, 1].astype(int) > 20, "the mask is red"


def test_what_counts(camera, starter: OpenModel) -> None:
    """The threshold of the label, else the general one, else the model's; nothing in a mask or of another label."""
    boxes = np.array([[0.5, 0.5, 0.6, 0.9], [0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.6, 0.9]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.9, 0.3], np.float32), np.zeros(3, np.int32))

    def counted(**detect) -> list[bool]:
        return picture.counts(camera(detect=Detect(**detect)), starter, found).tolist()

    assert counted(threshold=0.4) == [True, True, False]
    assert counted(threshold=0.4, masks=(MASK,)) == [True, False, False]
    assert counted(threshold=0.9, thresholds={"person": 0.2}) == [True, True, True]


@pytest.mark.parametrize("size", [(16, 16), (64, 2000), (3840, 16)])
@pytest.mark.parametrize("name", ["yard", "Hof-Nord ä", "x" * 64, ".."])
def test_pictures_of_any_shape_and_name(
    tmp_path: Path, camera, observation, starter: OpenModel, size: tuple[int, int], name: str
) -> None:
    """Zones at the very edge, long names, odd sizes: a file in the folder, nothing raised."""
    edge = Zone("e" * 40, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    path, _ = picture.save(
        tmp_path, camera(name=name, detect=Detect(zones=(edge,), masks=(MASK,))), observation(size), starter
    )
    assert path.parent == tmp_path
    assert path.stat().st_size > 500


def test_a_folder_that_can_not_be(tmp_path: Path, camera, observation, starter: OpenModel) -> None:
    """A file in its place is told with the fix."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate, match="--save"):
        picture.save(tmp_path / "file", camera(), observation(), starter)
