"""COCO labels: read, matched by name, scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.errors import BadData, InputMissing
from calibration.coco import coco_map, read_labels
from tests.unit.calibration.detections import found


def labels(folder: Path, *, name: str = "tvmonitor") -> Path:
    """Write labels of two images, 200 x 100 px, with one box each."""
    file = folder / "labels.json"
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 100} for n in (7, 9)]
    boxes = [{"id": n, "image_id": n, "category_id": 72, "bbox": [20, 40, 20, 20]} for n in (7, 9)]
    file.write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 72, "name": name}]})
    )
    return file


BOX = (0.1, 0.4, 0.2, 0.6, 0.9, 1)


@pytest.mark.parametrize("name", ["tv", "tvmonitor"])
def test_both_spellings_of_a_class_are_one(tmp_path: Path, name: str) -> None:
    """Darknet's names for six classes are VOC's: they must not silently drop out."""
    score = coco_map(labels(tmp_path, name=name), ["person", "tv"], {7: found(BOX), 9: found()})
    assert (score.map, score.map50) == pytest.approx((51 / 101, 51 / 101))


def test_a_box_of_two_numbers_is_told(tmp_path: Path) -> None:
    """By the one line that every bad file has."""
    file = labels(tmp_path)
    file.write_text(file.read_text().replace("[20, 40, 20, 20]", "[20, 40]"))
    with pytest.raises(BadData, match="is no COCO file"):
        read_labels(file)


def test_only_the_images_given_count(tmp_path: Path) -> None:
    """An image that was not looked at is not missed."""
    assert coco_map(labels(tmp_path), ["person", "tv"], {7: found(BOX)}).map == pytest.approx(1.0)


def test_no_class_in_common_is_an_error(tmp_path: Path) -> None:
    """A model of other classes can't be scored."""
    with pytest.raises(BadData, match="no class in common: wolf; the labels have tv"):
        coco_map(labels(tmp_path), ["wolf"], {7: found()})


def test_labels_that_are_none(tmp_path: Path) -> None:
    """What is no COCO file is told with the key; what is not there is missing."""
    bad = tmp_path / "bad.json"
    bad.write_text('{"images": [], "categories": []}')
    with pytest.raises(BadData, match="annotations"):
        read_labels(bad)
    with pytest.raises(InputMissing):
        read_labels(tmp_path / "none.json")
