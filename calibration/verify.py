"""Is a bundle as accurate as its manifest asks? Every artifact that runs here, on the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.errors import BadData, InputMissing
from calibration.contender import Contender, see_all
from calibration.figures import MIN_OBJECTS, MIN_SCORE, Scene, check_labels, figures, scene_of
from calibration.inference import open_file, open_runner
from calibration.verdict import Verdict, Verification, held_to, rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.bundle import Artifact, Bundle
    from agent.messages import Detections, Frame
    from calibration.flicker import Moment


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What was found, for whoever wants more than the verdict: detections frame by frame.

    `found` by the artifact's file, without those that failed; `reference` is None where there was none.
    """

    verification: Verification
    moments: Sequence[Moment]
    found: Mapping[str, Sequence[Detections]]
    reference: Sequence[Detections] | None


def measure(
    bundle: Bundle,
    frames: Iterable[tuple[str, Frame]],
    *,
    reference: Path | None = None,
    labels: Path | None = None,
    floor: float | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Measurement:
    """Run every artifact of `bundle` on `frames` (name of the clip, frame) and hold it against the floor.

    `reference` is a model file to agree with; without, it is the bundle's own FP32 artifact (FP16 if that is
    the best it has). `labels` is a COCO file, or for a classifier what `topone.read_truth` takes.
    `progress` is told the number of frames done. Raises InputMissing, BadData.
    """
    if labels is not None:
        check_labels(bundle, labels)
    artifacts = bundle.manifest.artifact
    own = None if reference else own_reference(bundle)
    contenders = [
        Contender(each.file, partial(open_runner, bundle, each, threads=threads)) for each in artifacts
    ]
    judge = _judge(bundle, reference, own, contenders, threads)
    everyone = [*contenders, *([judge] if judge and judge not in contenders else [])]
    try:
        moments = see_all(everyone, frames, MIN_SCORE[bundle.manifest.task], progress)
    finally:
        for contender in everyone:
            contender.close()
    scene = scene_of(bundle, moments, labels)
    metric, least = held = held_to(bundle, judged=judge is not None, labels=labels is not None, floor=floor)
    verdicts = [
        _verdict(bundle, scene, held, *pair, judge) for pair in zip(artifacts, contenders, strict=True)
    ]
    verification = Verification(
        bundle.manifest.name,
        bundle.manifest.version,
        metric,
        least or 0.0,
        judge.name if judge else None,
        len(moments),
        len({moment.clip for moment in moments}),
        tuple(verdicts),
    )
    found = {each.name: each.found for each in contenders if not each.fault}
    return Measurement(verification, moments, found, judge.found if judge and not judge.fault else None)


def own_reference(bundle: Bundle) -> Artifact | None:
    """Return the FP32 artifact, ONNX before TFLite; FP16 where there is none."""
    exact = [each for each in bundle.manifest.artifact if each.precision != "int8"]
    return min(exact, key=lambda each: (each.precision != "fp32", each.format != "onnx"), default=None)


def _judge(
    bundle: Bundle,
    reference: Path | None,
    own: Artifact | None,
    contenders: Sequence[Contender],
    threads: int,
) -> Contender | None:
    """Return whom all must agree with: the one of `contenders` that is the bundle's own, or `reference`."""
    if reference is None:
        return next((each for each in contenders if own and each.name == own.file), None)
    if not reference.is_file():
        raise InputMissing("no such file", seen=reference, fix="check --reference")
    judge = Contender(
        reference.name, lambda: open_file(bundle, reference, precision="reference", threads=threads)
    )
    if judge.fault:
        raise BadData("the reference can't be run", seen=judge.fault, fix="give another by --reference")
    return judge


def _verdict(
    bundle: Bundle,
    scene: Scene,
    held: tuple[str, float | None],
    artifact: Artifact,
    contender: Contender,
    judge: Contender | None,
) -> Verdict:
    metric, floor = held
    about = artifact.file, artifact.format, artifact.precision, contender.backend or None
    if contender.fault:
        return Verdict(*about, "broken", reason=contender.fault)
    sound = judge is not None and not judge.fault
    against = judge.found if judge and sound and judge is not contender else None
    seen = figures(bundle, scene, against, contender.found)
    if judge is contender and metric not in ("map", "top1"):
        return Verdict(*about, "reference", 1.0, figures=seen)
    if metric not in seen:
        return Verdict(*about, "unmeasured", reason=_why_unmeasured(metric, judge), figures=seen)
    if floor is None:
        return Verdict(*about, "unmeasured", reason=f"{metric} has no floor: give --floor", figures=seen)
    value = rounded(seen[metric].value)
    if value >= floor:
        return Verdict(*about, "passed", value, figures=seen)
    return Verdict(*about, "below", value, f"{metric} {value:g} is below {floor:g}", seen)


def _why_unmeasured(metric: str, judge: Contender | None) -> str:
    if metric in ("map", "top1"):
        return f"{metric} needs labels: give --labels"
    if judge is None:
        return "nothing to agree with: the bundle has no FP32 artifact, give --reference"
    if judge.fault:
        return f"the reference {judge.name} can't be run: {judge.fault}"
    what = "pictures" if metric == "top1_agreement" else f"objects that {judge.name} finds"
    return f"fewer than {MIN_OBJECTS} {what} in these clips: give more, that show what the model is for"
