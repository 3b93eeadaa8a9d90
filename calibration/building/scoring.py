"""How good a candidate is while it is searched for: its agreement with the float network on known pictures."""

from __future__ import annotations

import math
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from agent import __version__
from agent.bundle.files import digest_of
from agent.errors import BadData
from calibration import topone
from calibration.agreement import MIN_SCORE, agreement, f1
from calibration.inference import open_file
from calibration.pictures import load_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.messages import Detections
    from calibration.pictures import Picture


NEAR = 0.05
"""A score this little below the threshold still counts as told: half a step of a usual INT8 output is less."""

_MEASURE = 2
"""Goes up with every change of what a score is, so that none of an older measure is taken for a new one."""


def measured_by(draft: Bundle) -> list[object]:
    """Return all that a score depends on besides the files and the pictures, as a JSON-able value."""
    manifest = draft.manifest
    anchors = manifest.decoder.anchors
    described = [manifest.task, repr(manifest.input), repr(manifest.decoder)]
    return [__version__, _MEASURE, *described, anchors and digest_of(draft.path / anchors)]


def scorer(
    draft: Bundle, reference: Path, pictures: Sequence[Picture], *, decisions: bool = False
) -> Callable[[Path], float]:
    """Return a function that says how far a model file agrees with `reference` on `pictures`, 0..1.

    Agreement of a detector, or with `decisions` F1 of what both tell at the threshold in use: of fourteen INT8
    CenterNets on 64 images it goes with mAP on other images, where AP50 hardly does. The
    share of equal best labels of a classifier.
    """

    @cache
    def expected() -> tuple[Detections, ...]:
        return tuple(detections(draft, reference, pictures))

    def score(file: Path) -> float:
        return _agreement(draft, expected(), detections(draft, file, pictures), decisions=decisions)

    return score


def detections(draft: Bundle, file: Path, pictures: Sequence[Picture]) -> list[Detections]:
    """Return what `file` finds in each of `pictures`, read as `draft` says. Raises BadData."""
    least = MIN_SCORE if draft.manifest.task == "detect" else 0.0
    with closing(open_file(draft, file, precision="")) as runner:
        return [runner.detect(load_frame(picture), least) for picture in pictures]


def _agreement(
    draft: Bundle, expected: Sequence[Detections], found: Sequence[Detections], *, decisions: bool
) -> float:
    if draft.manifest.task == "classify":
        same = topone.same(expected, found)
        value = same.value if same else math.nan
    elif decisions:
        threshold = draft.manifest.decoder.score_threshold
        value = f1(expected, found, threshold=threshold, doubtful=threshold - NEAR)
    else:
        value = agreement(expected, found, threshold=draft.manifest.decoder.score_threshold)
    if math.isnan(value):
        fix = "give clips that show what it is for"
        raise BadData("the float network finds nothing to agree with in the calibration pictures", fix=fix)
    return value
