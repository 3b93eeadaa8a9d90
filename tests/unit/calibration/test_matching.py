"""Average precision of matched boxes: as pycocotools has it, and of resampled frames."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from calibration.matching import match

IOU = np.linspace(0.5, 0.95, 10)


def scene(seed: int, frames: int, *, ties: bool = True) -> tuple[list[dict], list[dict]]:
    """Return boxes of `frames` frames, and what a sloppy detector finds: shifted, doubled, lost, invented.

    `ties`: many boxes have the same score.
    """
    numbers = np.random.default_rng(seed)
    truth, found = [], []
    for frame in range(frames):
        for _ in range(numbers.integers(0, 6)):
            box = [*numbers.uniform(0, 400, 2), *numbers.uniform(20, 120, 2)]
            class_id = int(numbers.integers(1, 4))
            truth.append({"image_id": frame, "category_id": class_id, "bbox": box, "area": box[2] * box[3]})
            for _ in range(numbers.integers(0, 3)):
                moved = list(np.array(box) + numbers.normal(0, 8, 4))
                found.append({"image_id": frame, "category_id": class_id, "bbox": moved})
        for _ in range(numbers.integers(0, 3)):
            box = [*numbers.uniform(0, 400, 2), *numbers.uniform(20, 120, 2)]
            found.append({"image_id": frame, "category_id": int(numbers.integers(1, 5)), "bbox": box})
    for box in found:
        score = float(numbers.uniform(0, 1))
        box["score"] = round(score, 1) if ties else score
    return truth, found


def coco_stats(truth: list[dict], found: list[dict], frames: int) -> tuple[float, float]:
    """Return mAP and mAP50 of pycocotools itself."""
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": frame} for frame in range(frames)],
        "categories": [{"id": class_id} for class_id in sorted({box["category_id"] for box in truth})],
        "annotations": [{**box, "id": n, "iscrowd": 0} for n, box in enumerate(truth, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools(seed: int) -> None:
    """The figure is pycocotools' own, ties of scores and classes without truth included."""
    truth, found = scene(seed, 12)
    precision = match(truth, found, range(12), IOU).precision()
    assert (precision.mean(), precision[0]) == pytest.approx(coco_stats(truth, found, 12), abs=1e-12)


@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=6, max_size=6).filter(any))
@settings(max_examples=30, deadline=None)
def test_weight_is_a_frame_seen_that_often(seed: int, times: list[int]) -> None:
    """A frame of weight 3 counts like three frames with the same boxes."""
    truth, found = scene(seed, 6, ties=False)
    weighted = match(truth, found, range(6), IOU).precision(np.array(times, float))
    copies = [(frame, copy) for frame in range(6) for copy in range(times[frame])]

    def repeated(boxes: list[dict]) -> list[dict]:
        return [
            {**box, "image_id": n}
            for n, (frame, _) in enumerate(copies)
            for box in boxes
            if box["image_id"] == frame
        ]

    explicit = match(repeated(truth), repeated(found), range(len(copies)), IOU).precision()
    assert weighted == pytest.approx(explicit, abs=1e-9, nan_ok=True)


def test_nothing_expected_is_no_number() -> None:
    """Without truth there is no precision, rather than one of 0 or 1."""
    _, found = scene(1, 4)
    assert np.isnan(match([], found, range(4), IOU).precision()).all()


def test_nothing_found_is_zero() -> None:
    """What was expected and not found has precision 0."""
    truth, _ = scene(1, 4)
    assert (match(truth, [], range(4), IOU).precision() == 0).all()
