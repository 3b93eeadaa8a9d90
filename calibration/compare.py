"""Two bundles side by side on the same frames: accuracy, speed, memory, and where they disagree."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.errors import UsageError
from agent.messages import Detections
from calibration import topone
from calibration.bootstrap import Figure, figure
from calibration.coco import coco_name
from calibration.figures import MIN_SCORE, agreement, check_labels, figures, scene_of
from calibration.flicker import Moment, sure
from calibration.footprint import footprint_mb
from calibration.inference import open_runner
from calibration.report import Sample
from calibration.report.samples import partners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.bundle import Artifact, Bundle
    from agent.messages import Frame
    from calibration.figures import Scene
    from calibration.inference import Runner

PICTURES = 24
"""Frames that are shown, the worst first."""


class Side(msgspec.Struct, frozen=True):
    """One bundle: what ran, how large, fast and accurate it is.

    `ms` is the median from the decoded frame to detections; `rss_mb` the peak of a process that only runs the
    network; `objects` is how many detections count, at the model's own threshold. `objects` and `figures` are
    of the labels that both have.
    """

    model: str
    version: int
    file: str
    precision: str
    backend: str
    bytes: int
    ms: float
    rss_mb: float | None
    objects: int
    figures: dict[str, Figure]


class Comparison(msgspec.Struct, frozen=True):
    """Both, and how they relate. `speed` is how many times faster B is than A, a frame of each in turn.

    `a_in_b` is how far B finds what A finds (agreement, or top-1 for classifiers), `b_in_a` the other way round,
    over the labels that both have. `worst` are the frames where they disagree most: how many boxes only one
    of them has.
    """

    a: Side
    b: Side
    frames: int
    clips: int
    labels_in_common: int
    speed: Figure | None
    a_in_b: Figure | None
    b_in_a: Figure | None
    worst: dict[str, int]
    skipped: dict[str, str] = {}


@dataclass(slots=True, eq=False)
class _Player:
    """One bundle at work. `number` is each of its classes' number among the labels of both, -1: not in both."""

    bundle: Bundle
    artifact: Artifact
    runner: Runner
    number: NDArray[np.int32]
    found: list[Detections] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)

    @property
    def threshold(self) -> float:
        return self.bundle.manifest.decoder.score_threshold

    def see(self, frame: Frame) -> None:
        began_s = time.perf_counter()
        self.found.append(self.runner.detect(frame, MIN_SCORE[self.bundle.manifest.task]))
        self.times_ms.append((time.perf_counter() - began_s) * 1e3)

    def in_common(self, found: Detections) -> Detections:
        """Return the detections that have a label of both, with its number."""
        number = self.number[found.class_id]
        return Detections(found.xyxy, found.score, number)[number >= 0]


def compare(
    a: Bundle,
    b: Bundle,
    frames: Iterable[tuple[str, Frame]],
    *,
    labels: Path | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> tuple[Comparison, list[Sample]]:
    """Run what `edge-agent run` would of both on `frames`; return the figures and the worst frames, drawn.

    Raises UsageError for bundles that have nothing in common, InputMissing, BadData.
    """
    names = _names_in_common(a, b)
    if labels is not None:
        check_labels(a, labels)
    memory = [footprint_mb(each.path, each.artifact().file, threads=threads) for each in (a, b)]
    players = [_player(each, names, threads) for each in (a, b)]
    try:
        moments, worst = _play(players, frames, names, progress)
    finally:
        for player in players:
            player.runner.close()
    scenes = [scene_of(replace(each.bundle, labels=names), moments, labels) for each in players]
    sides = [
        _side(player, names, scene, rss_mb)
        for player, scene, rss_mb in zip(players, scenes, memory, strict=True)
    ]
    comparison = Comparison(
        a=sides[0],
        b=sides[1],
        frames=len(moments),
        clips=len({moment.clip for moment in moments}),
        labels_in_common=len(names),
        speed=_speed(np.array(players[0].times_ms), np.array(players[1].times_ms)),
        a_in_b=_agreement(*players),
        b_in_a=_agreement(*players[::-1]),
        worst={sample.name: _apart(sample) for sample in worst},
    )
    return comparison, worst


def _names_in_common(a: Bundle, b: Bundle) -> tuple[str, ...]:
    if a.manifest.task != b.manifest.task:
        seen = f"{a.manifest.task} and {b.manifest.task}"
        raise UsageError("the bundles are for different tasks", seen=seen, fix="compare two of one task")
    others = {coco_name(name) for name in b.labels}
    names = tuple(name for name in map(coco_name, a.labels) if name in others)
    if not names:
        seen = f"{a.labels[0]}, ... and {b.labels[0]}, ..."
        raise UsageError("the bundles have no label in common", seen=seen, fix="compare two that have")
    return names


def _player(bundle: Bundle, names: tuple[str, ...], threads: int) -> _Player:
    known = {name: number for number, name in enumerate(names)}
    number = np.array([known.get(coco_name(name), -1) for name in bundle.labels], np.int32)
    artifact = bundle.artifact()
    return _Player(bundle, artifact, open_runner(bundle, artifact, threads=threads), number)


def _play(
    players: Sequence[_Player],
    frames: Iterable[tuple[str, Frame]],
    names: tuple[str, ...],
    progress: Callable[[int], None] | None,
) -> tuple[list[Moment], list[Sample]]:
    """Show every frame to both, each first in turn; keep the frames where they disagree most."""
    moments: list[Moment] = []
    worst: list[tuple[int, int, Sample]] = []
    for n, (clip, frame) in enumerate(frames):
        for player in players if n % 2 else players[::-1]:
            player.see(frame)
        moments.append(Moment(clip, frame.pts_s))
        name = clip if frame.seq == 0 else f"{clip} at {frame.pts_s:.1f} s"
        of_a, of_b = (player.in_common(sure(player.found[-1], player.threshold)) for player in players)
        sample = Sample(name, frame, of_a, of_b, names)
        if apart := _apart(sample):
            heapq.heappush(worst, (apart, -n, sample))
            if len(worst) > PICTURES:
                heapq.heappop(worst)
        if progress:
            progress(n + 1)
    return moments, [sample for _, _, sample in sorted(worst, key=lambda each: each[:2], reverse=True)]


def _apart(sample: Sample) -> int:
    """Return how many boxes (best labels of a classifier) only one side has."""
    return sum(int((~alike).sum()) for alike in partners(sample.reference, sample.candidate))


def _side(player: _Player, names: tuple[str, ...], scene: Scene, rss_mb: float | None) -> Side:
    """Return what is told of one side, over the labels that both have."""
    manifest, artifact = player.bundle.manifest, player.artifact
    found = [player.in_common(each) for each in player.found]
    return Side(
        manifest.name,
        manifest.version,
        artifact.file,
        artifact.precision,
        player.runner.engine.info.backend,
        player.bundle.file(artifact).stat().st_size,
        median(player.times_ms) if player.times_ms else 0.0,
        rss_mb,
        sum(len(sure(each, player.threshold)) for each in found),
        figures(replace(player.bundle, labels=names), scene, None, found),
    )


def _speed(a_ms: NDArray[np.float64], b_ms: NDArray[np.float64]) -> Figure | None:
    """Return the median of the frames' ratios."""
    ratio = a_ms / b_ms

    def middle(weight: NDArray[np.float64]) -> float:
        return float(np.median(np.repeat(ratio, weight.astype(int)))) if len(ratio) else float("nan")

    return figure(middle, len(ratio))


def _agreement(truth: _Player, other: _Player) -> Figure | None:
    theirs = [truth.in_common(found) for found in truth.found]
    others = [other.in_common(found) for found in other.found]
    if truth.bundle.manifest.task == "classify":
        return topone.same(theirs, others)
    return agreement(theirs, others, threshold=truth.threshold)
