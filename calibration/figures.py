"""Every figure of one network's detections, beside the reference's and against labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from calibration import topone
from calibration.agreement import agreement_statistic
from calibration.bootstrap import Figure, figure
from calibration.coco import coco_matches, read_labels
from calibration.flicker import Moment, flicker, label_flips, score_shift

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.messages import Detections
    from calibration.coco import CocoLabels
    from calibration.matching import Matches

    Found = Sequence[Detections]

MIN_SCORE = {"detect": 0.005, "classify": 0.0, "clip": 0.0}
"""What scores less is not looked at, by the manifest's task."""
MIN_OBJECTS = 10
"""Boxes of the reference, or pictures for a classifier: fewer say nothing about agreement."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The frames that were looked at, and what is known of them.

    `boxes` are COCO labels for a detector, with the number of the frame in `image` for each image id;
    `truth` is the class of each frame for a classifier.
    """

    moments: Sequence[Moment]
    boxes: CocoLabels | None = None
    image: dict[int, int] | None = None
    truth: Sequence[int | None] | None = None


def check_labels(bundle: Bundle, labels: Path) -> None:
    """Raise what `scene_of` would for a file that can't be read: before the long run, not after it."""
    if bundle.manifest.task == "classify":
        topone.check_labels(labels)
    else:
        read_labels(labels)


def scene_of(bundle: Bundle, moments: Sequence[Moment], labels: Path | None) -> Scene:
    """Return the scene with `labels` for the task of `bundle`. Raises InputMissing, BadData."""
    clips = [moment.clip for moment in moments]
    if labels is None:
        return Scene(moments)
    if bundle.manifest.task == "classify":
        return Scene(moments, truth=topone.read_truth(labels, clips, bundle.labels))
    boxes = read_labels(labels)
    names = [PurePosixPath(clip).name for clip in clips]
    image = {boxes.id_of_file[name]: n for n, name in enumerate(names) if name in boxes.id_of_file}
    if not image:
        raise boxes.strange(names)
    return Scene(moments, boxes=boxes, image=image)


def figures(bundle: Bundle, scene: Scene, reference: Found | None, found: Found) -> dict[str, Figure]:
    """Return all figures of `found` that can be had, by name; `reference` is None where there is none.

    "agreement", "score_shift", "label_flips", "flicker", "map", "map50" of a detector;
    "top1_agreement", "score_shift", "flicker", "top1" of a classifier.
    """
    classify = bundle.manifest.task == "classify"
    alone = _classifier_alone(scene, found) if classify else _detector_alone(bundle, scene, found)
    if reference is None:
        return _known(alone)
    threshold = bundle.manifest.decoder.score_threshold
    compared: dict[str, Figure | None]
    if classify:
        compared = {
            "top1_agreement": topone.same(reference, found) if len(found) >= MIN_OBJECTS else None,
            "score_shift": topone.score_shift(reference, found),
        }
    else:
        compared = {
            "agreement": agreement(reference, found, threshold=threshold),
            "score_shift": score_shift(reference, found, threshold=threshold),
            "label_flips": label_flips(reference, found, threshold=threshold),
        }
    return _known(compared | alone)


def agreement(reference: Found, found: Found, *, threshold: float) -> Figure | None:
    """Return the agreement with its interval; None when the reference found fewer than MIN_OBJECTS."""
    if sum(int((frame.score >= threshold).sum()) for frame in reference) < MIN_OBJECTS:
        return None
    return figure(agreement_statistic(reference, found, threshold=threshold), len(reference))


def _detector_alone(bundle: Bundle, scene: Scene, found: Found) -> dict[str, Figure | None]:
    threshold = bundle.manifest.decoder.score_threshold
    alone = {"flicker": flicker(found, scene.moments, threshold=threshold)}
    if scene.boxes is None or scene.image is None:
        return alone
    by_image = {image: found[n] for image, n in scene.image.items()}
    matches = coco_matches(scene.boxes, bundle.labels, by_image)
    return alone | {"map": _precision(matches), "map50": _precision(matches.at(0))}


def _classifier_alone(scene: Scene, found: Found) -> dict[str, Figure | None]:
    alone = {"flicker": topone.flicker(found, scene.moments)}
    return alone if scene.truth is None else alone | {"top1": topone.right(found, scene.truth)}


def _precision(matches: Matches) -> Figure | None:
    return figure(lambda weight: float(matches.precision(weight).mean()), matches.frames)


def _known(each: dict[str, Figure | None]) -> dict[str, Figure]:
    return {name: value for name, value in each.items() if value is not None}
