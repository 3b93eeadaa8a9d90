"""How good a candidate is while it is searched for: its agreement with the float network on known pictures."""

from __future__ import annotations

import math
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from agent.errors import BadData
from calibration import topone
from calibration.agreement import MIN_SCORE, agreement_ap50, strict_agreement
from calibration.inference import open_file
from calibration.pictures import load_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.messages import Detections
    from calibration.pictures import Picture


def scorer(
    draft: Bundle, reference: Path, pictures: Sequence[Picture], *, strict: bool = False
) -> Callable[[Path], float]:
    """Return a function that says how far a model file agrees with `reference` on `pictures`, 0..1.

    AP50 of a detector, or `strict` agreement; the share of equal best labels of a classifier.
    """

    @cache
    def expected() -> tuple[Detections, ...]:
        return tuple(detections(draft, reference, pictures))

    def score(file: Path) -> float:
        return _agreement(draft, expected(), detections(draft, file, pictures), strict=strict)

    return score


def detections(draft: Bundle, file: Path, pictures: Sequence[Picture]) -> list[Detections]:
    """Return what `file` finds in each of `pictures`, read as `draft` says. Raises BadData."""
    least = MIN_SCORE if draft.manifest.task == "detect" else 0.0
    with closing(open_file(draft, file, precision="")) as runner:
        return [runner.detect(load_frame(picture), least) for picture in pictures]


def _agreement(
    draft: Bundle, expected: Sequence[Detections], found: Sequence[Detections], *, strict: bool
) -> float:
    if draft.manifest.task == "classify":
        same = topone.same(expected, found)
        value = same.value if same else math.nan
    elif strict:
        value = strict_agreement(expected, found)
    else:
        value = agreement_ap50(expected, found, threshold=draft.manifest.decoder.score_threshold)
    if math.isnan(value):
        fix = "give clips that show what it is for"
        raise BadData("the float network finds nothing to agree with in the calibration pictures", fix=fix)
    return value
