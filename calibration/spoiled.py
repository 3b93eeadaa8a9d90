"""Two networks on the same frames, clean and under every corruption."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.errors import BadData
from calibration.corruptions import CORRUPTIONS, SEVERITIES, corrupt, picture_of, pixels_of
from calibration.figures import MIN_SCORE
from calibration.flicker import Moment, sure
from calibration.inference import open_file, open_runner
from calibration.report import Sample
from calibration.verify import own_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from agent.bundle import Artifact, Bundle
    from agent.messages import Detections, Frame
    from calibration.inference import Runner

Condition = tuple[str, int]
"""A corruption and its severity; CLEAN is none."""
CLEAN: Condition = ("clean", 0)
CONDITIONS: tuple[Condition, ...] = (CLEAN, *((name, level) for name in CORRUPTIONS for level in SEVERITIES))
_SHOWN = (CLEAN, *((name, 2) for name in CORRUPTIONS))


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The float network and the one that a device runs, of the same bundle."""

    reference: Runner
    candidate: Runner
    reference_file: str
    candidate_file: str

    @property
    def bundle(self) -> Bundle:
        """Whose networks they are."""
        return self.candidate.bundle

    def close(self) -> None:
        """Release both."""
        self.reference.close()
        self.candidate.close()


def open_pair(bundle: Bundle, reference: Path | None = None) -> Pair:
    """Open the artifact of `bundle` that a device runs, and its float partner or the file `reference`.

    Raises InputMissing, BadData, also when there are no two.
    """
    candidate = bundle.artifact()
    name, opened = _open_reference(bundle, candidate, reference)
    try:
        return Pair(opened, open_runner(bundle, candidate), name, candidate.file)
    except BaseException:
        opened.close()
        raise


def _open_reference(bundle: Bundle, candidate: Artifact, given: Path | None) -> tuple[str, Runner]:
    """Return the float network's name and runner: `given`, else the float artifact beside `candidate`."""
    if given:
        return given.name, open_file(bundle, given, precision="reference")
    own = own_reference(bundle)
    if own is None or own == candidate:
        have = ", ".join(artifact.file for artifact in bundle.manifest.artifact)
        fix = "name a float network by --reference, or build an INT8 one with `edge-calibrate build`"
        raise BadData("the bundle has no two networks to compare", seen=have, fix=fix)
    return own.file, open_runner(bundle, own)


@dataclass(slots=True, eq=False)
class Pass:
    """What one pass over the frames found: detections of both networks, frame by frame, for each condition.

    `shown` is the first frame on which the reference is sure of something.
    """

    reference: dict[Condition, list[Detections]] = field(default_factory=dict)
    candidate: dict[Condition, list[Detections]] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    shown: tuple[str, Frame] | None = None


def look(
    pair: Pair,
    frames: Iterable[tuple[str, Frame]],
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Pass:
    """Run both networks on every frame (with its clip's name), clean and spoiled in every way."""
    manifest, found = pair.bundle.manifest, Pass()
    min_score = MIN_SCORE[manifest.task]
    for clip, frame in frames:
        for condition, spoiled in under(CONDITIONS, clip, frame, seed):
            for runner, side in ((pair.reference, found.reference), (pair.candidate, found.candidate)):
                side.setdefault(condition, []).append(runner.detect(spoiled, min_score))
        found.moments.append(Moment(clip, frame.pts_s))
        if found.shown is None and len(sure(found.reference[CLEAN][-1], manifest.decoder.score_threshold)):
            found.shown = clip, frame
        if progress:
            progress(len(found.moments))
    return found


def under(
    conditions: Sequence[Condition], clip: str, frame: Frame, seed: int
) -> Iterator[tuple[Condition, Frame]]:
    """Yield `frame` under each of `conditions`; what is random depends on `seed`, clip and frame number alone.

    The clean one goes through the same conversion to RGB, so that nothing but the corruption differs.
    """
    pixels = pixels_of(frame.picture)
    own_seed = seed ^ zlib.crc32(f"{clip} {frame.seq}".encode())
    for name, level in conditions:
        shown = pixels if (name, level) == CLEAN else corrupt(pixels, name, level, seed=own_seed)
        yield (name, level), replace(frame, picture=picture_of(shown))


def samples(pair: Pair, found: Pass, *, seed: int = 0) -> Iterator[Sample]:
    """Yield one frame under every corruption, as both networks see it; nothing where they see nothing."""
    if found.shown is None:
        return
    threshold, names = pair.bundle.manifest.decoder.score_threshold, pair.bundle.labels
    for (name, _), frame in under(_SHOWN, *found.shown, seed):
        reference, candidate = (each.detect(frame, threshold) for each in (pair.reference, pair.candidate))
        says = CORRUPTIONS[name].says if name in CORRUPTIONS else "as it is"
        yield Sample(name, frame, reference, candidate, names, says)
