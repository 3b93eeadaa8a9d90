"""COCO mean average precision against a file of labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np

from agent.errors import BadData, InputMissing
from calibration.matching import Matches, match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.messages import Detections

MIN_SCORE = 0.005
"""What scores less does not change the figure."""
_IOU = np.linspace(0.5, 0.95, 10)
_COCO_NAME = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""PASCAL VOC's spellings, which Darknet's copy of the COCO names has spread."""


class CocoScore(NamedTuple):
    """Mean over IoU 0.5 to 0.95, and at IoU 0.5, both 0..1, over the classes that occur (nan: none)."""

    map: float
    map50: float


class _Image(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    width: int
    height: int


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Box(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    bbox: Annotated[list[float], msgspec.Meta(min_length=4, max_length=4)]
    area: float | None = None
    iscrowd: int = 0


class _File(msgspec.Struct, frozen=True):
    images: tuple[_Image, ...]
    annotations: tuple[_Box, ...]
    categories: tuple[_Category, ...]


@dataclass(frozen=True, eq=False)
class CocoLabels:
    """What is really there: images by id, their boxes, and the classes by name."""

    images: Mapping[int, tuple[int, int]]
    id_of_file: Mapping[str, int]
    category_of: Mapping[str, int]
    boxes: Sequence[_Box]

    @cached_property
    def truth(self) -> list[dict[str, Any]]:
        """The boxes as pycocotools wants them."""
        return [
            {key: value for key, value in msgspec.structs.asdict(box).items() if value is not None}
            for box in self.boxes
        ]

    def strange(self, names: Sequence[str]) -> BadData:
        """Return the error for images that are none of these."""
        fix = f"the labels have {', '.join(list(self.id_of_file)[:3])}, ...: give their images as clips"
        return BadData("the labels know none of the images", seen=", ".join(names[:3]) or "no image", fix=fix)


def read_labels(path: Path) -> CocoLabels:
    """Read a COCO detection file. Raises InputMissing, BadData."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputMissing(f"can't read labels {path}", seen=error.strerror, fix="check the path") from None
    try:
        file = msgspec.json.decode(raw, type=_File)
    except msgspec.MsgspecError as error:
        fix = "give a COCO detection file: images, annotations (bbox), categories"
        raise BadData(f"{path} is no COCO file", seen=error, fix=fix) from None
    return CocoLabels(
        {image.id: (image.width, image.height) for image in file.images},
        {image.file_name: image.id for image in file.images},
        {coco_name(category.name): category.id for category in file.categories},
        file.annotations,
    )


def coco_name(name: str) -> str:
    """Return COCO's spelling of a class."""
    return _COCO_NAME.get(name, name)


def coco_map(labels_json: Path, names: Sequence[str], found: Mapping[int, Detections]) -> CocoScore:
    """Return the score of `found`, detections by image id, over those images; `names` are the model's classes.

    Classes are matched by name; those that only one side has are left out. Raises InputMissing, BadData.
    """
    return score(coco_matches(read_labels(labels_json), names, found))


def coco_matches(labels: CocoLabels, names: Sequence[str], found: Mapping[int, Detections]) -> Matches:
    """Match `found` (by image id) to `labels`, for the score of any weighting of the images, in their order."""
    known = {class_id: labels.category_of.get(coco_name(name)) for class_id, name in enumerate(names)}
    common = {class_id: category for class_id, category in known.items() if category is not None}
    if not common:
        fix = f"the labels have {', '.join(list(labels.category_of)[:5])}"
        raise BadData("labels and model have no class in common", seen=", ".join(names[:5]), fix=fix)
    images = list(found)
    truth = [box for box in labels.truth if box["image_id"] in found]
    boxes = [box for image in images for box in _boxes(image, labels.images[image], found[image], common)]
    return match(truth, boxes, images, _IOU, sorted(common.values()))


def score(matches: Matches, weight: Any = None) -> CocoScore:
    """Return the score of `matches`, with `weight` a frame if given."""
    precision = matches.precision(weight)
    return CocoScore(float(precision.mean()), float(precision[0]))


def _boxes(
    image: int, size_px: tuple[int, int], found: Detections, common: Mapping[int, int]
) -> list[dict[str, Any]]:
    xyxy = found.xyxy.astype(np.float64) * np.array([*size_px, *size_px])
    return [
        {
            "image_id": image,
            "category_id": common[class_id],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(value),
        }
        for (x1, y1, x2, y2), value, class_id in zip(
            xyxy.tolist(), found.score, found.class_id.tolist(), strict=True
        )
        if class_id in common
    ]
