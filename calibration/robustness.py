"""How much worse a network sees through noise, night and weather, and whether INT8 suffers more than FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.errors import BadData
from calibration import topone
from calibration.agreement import agreement_matches
from calibration.bootstrap import Figure, bootstrap
from calibration.coco import coco_matches
from calibration.figures import scene_of
from calibration.record import Robustness, RobustnessResult
from calibration.spoiled import CLEAN, CONDITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from agent.messages import Detections
    from calibration.coco import CocoLabels
    from calibration.record import RobustnessMetric
    from calibration.spoiled import Condition, Pair, Pass

    Statistic = Callable[[NDArray[np.float64]], float]
    """From a weight for each frame to a figure 0..1."""

_ROUNDS = 100
"""Of the bootstrap: 25 conditions are to be done, and an interval's ends need not be exact."""


def measure(pair: Pair, found: Pass, *, labels: Path | None = None, seed: int = 0) -> Robustness:
    """Return what both networks reached in every condition.

    `labels` is a COCO file, or for a classifier what `topone.read_truth` takes. Raises InputMissing, and BadData
    where nothing can be compared.
    """
    manifest = pair.bundle.manifest
    metric, statistic = _measure_of(pair.bundle, found, labels)
    sides = {
        condition: (
            _kept(statistic(found.reference[condition])),
            _kept(statistic(found.candidate[condition])),
        )
        for condition in CONDITIONS
    }
    frames = len(found.moments)
    spoiled = [both for condition, both in sides.items() if condition != CLEAN]
    return Robustness(
        model=manifest.name,
        version=manifest.version,
        reference=pair.reference_file,
        candidate=pair.candidate_file,
        metric=metric,
        frames=frames,
        clips=len({moment.clip for moment in found.moments}),
        seed=seed,
        clean=_result(CLEAN, sides[CLEAN], frames),
        mean=_result(("mean", 0), (_mean([a for a, _ in spoiled]), _mean([b for _, b in spoiled])), frames),
        results=tuple(_result(each, both, frames) for each, both in sides.items() if each != CLEAN),
    )


def _result(condition: Condition, both: tuple[Statistic, Statistic], frames: int) -> RobustnessResult:
    of_reference, of_candidate = both
    reference, candidate = (of(np.ones(frames)) for of in both)
    if np.isnan(reference + candidate):
        fix = "give clips of what the model is for, or more of them"
        raise BadData("the float network finds nothing to compare with", seen=f"{frames} frames", fix=fix)
    low, high = bootstrap(lambda weight: of_reference(weight) - of_candidate(weight), frames, rounds=_ROUNDS)
    lost = Figure(reference - candidate, low, high)
    name, level = condition
    return RobustnessResult(
        corruption=name, severity=level, reference=reference, candidate=candidate, lost=lost
    )


def _kept(statistic: Statistic) -> Statistic:
    """Return `statistic`, asked once for each weighting: the mean over all corruptions asks for all again."""
    known: dict[bytes, float] = {}

    def ask(weight: NDArray[np.float64]) -> float:
        key = weight.tobytes()
        if key not in known:
            known[key] = statistic(weight)
        return known[key]

    return ask


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weight: float(np.mean([each(weight) for each in statistics]))


def _measure_of(
    bundle: Bundle, found: Pass, labels: Path | None
) -> tuple[RobustnessMetric, Callable[[Sequence[Detections]], Statistic]]:
    """Return what is measured, and how it is had of the detections of all frames."""
    clean = found.reference[CLEAN]
    scene = scene_of(bundle, found.moments, labels)
    if bundle.manifest.task == "classify":
        right = scene.truth or [topone.best(each) for each in clean]
        return "top1" if scene.truth else "top1_agreement", lambda seen: _top(right, seen)
    if scene.boxes is not None and scene.image is not None:
        boxes, image = scene.boxes, scene.image
        return "map", lambda seen: _map(boxes, bundle.labels, image, seen)
    threshold = bundle.manifest.decoder.score_threshold
    return "agreement_ap50", lambda seen: _agreement(clean, seen, threshold)


def _agreement(clean: Sequence[Detections], seen: Sequence[Detections], threshold: float) -> Statistic:
    matches = agreement_matches(clean, seen, threshold=threshold)
    return lambda weight: float(matches.precision(weight)[0])


def _map(
    boxes: CocoLabels, names: Sequence[str], image: dict[int, int], seen: Sequence[Detections]
) -> Statistic:
    matches = coco_matches(boxes, names, {image_id: seen[frame] for image_id, frame in image.items()})
    frames = list(image.values())
    return lambda weight: float(matches.precision(weight[frames]).mean())


def _top(right: Sequence[int | None], seen: Sequence[Detections]) -> Statistic:
    known = np.array([label is not None for label in right], np.float64)
    hit = np.array(
        [topone.best(found) == label for found, label in zip(seen, right, strict=True)], np.float64
    )
    return lambda weight: float(weight @ hit) / float(weight @ known) if weight @ known else float("nan")
