"""The end of a build: the artifacts measured on pictures they never saw, the report, the bundle."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from agent.bundle.files import digest_of
from agent.bundle.writing import write_bundle
from agent.wholefile import write_whole
from calibration.building.reporting import INT8, make_report
from calibration.building.workfolder import SCRATCH
from calibration.figures import MIN_OBJECTS
from calibration.inference import open_file
from calibration.report import write_report
from calibration.report.writing import PAGE
from calibration.verdict import IN_MANIFEST, Unmeasured, complete
from calibration.verify import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.bundle import Bundle, Manifest
    from calibration.building.reporting import Parts
    from calibration.footage import Footage
    from calibration.quantize.curve import Point
    from calibration.verdict import Verdict, Verification

_GOOD = ("reference", "passed")
GOLDEN = "golden.npz"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a build came to. `bundle` is None when the INT8 .tflite stayed below the floor; `point` is what it is."""

    bundle: Path | None
    report: Path
    verification: Verification
    point: Point
    notes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield what to tell the user, beside the figures."""
        point = self.point
        yield (
            f"{INT8}: {point.label}, {point.int8_macs:.0%} of the multiplications in INT8, "
            f"{point.ms_float / point.ms:.2f} times as fast as float, {point.bytes / 1e6:.1f} MB"
        )
        yield from self.notes
        yield f"report: {self.report}"
        if self.bundle:
            yield f"bundle: {self.bundle}"
        else:
            fix = "give more clips, or lower --floor if that is good enough"
            yield f"no bundle: {_verdict(self.verification).reason}; {fix}"


def check_enough(draft: Bundle, tflite: Path, footage: Footage) -> None:
    """Raise Unmeasured when `footage` shows too little to measure on: before the search, not after it.

    `tflite` is the float network. Raises InputMissing, BadData as `Footage.frames` too.
    """
    detects = draft.manifest.task == "detect"
    least, seen = draft.manifest.decoder.score_threshold, 0
    with closing(open_file(draft, tflite, precision="")) as runner:
        for _, frame in footage.frames():
            seen += len(runner.detect(frame, least)) if detects else 1
            if seen >= MIN_OBJECTS:
                return
    what = "objects that the float network finds in the held-out pictures" if detects else "held-out pictures"
    raise Unmeasured(what, seen=seen, fix=f"give more clips: {MIN_OBJECTS} are needed to measure agreement")


def finish(
    out: Path, draft: Bundle, parts: Parts, footage: Footage, work: Path, count: Callable[[int], None]
) -> Finished:
    """Measure `parts` on `footage`, and write the bundle `out` of those at the floor or above.

    Raises BadData, CannotCreate; Unmeasured when nothing can be said of INT8.
    """
    unmeasured = _manifest(draft, parts)
    with TemporaryDirectory(dir=work, prefix=SCRATCH) as scratch:
        trial = write_bundle(Path(scratch) / "bundle", unmeasured, _files(draft, unmeasured, parts))
        measured = measure(trial, footage.frames(), floor=draft.manifest.accuracy.floor, progress=count)
        verification = complete(measured.verification, footage.skipped)
        left_out = {each.file: each.reason for each in verification.artifacts if each.state not in _GOOD}
        report, samples = make_report(trial, parts, measured, footage, left_out)
        folder = Path(scratch) / "report"
        write_report(report, folder, samples)
        pages = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    for name, content in pages.items():
        write_whole(work / name, content)
    int8 = _verdict(verification)
    if int8.state == "unmeasured":
        raise Unmeasured(f"no bundle: {INT8} is unmeasured: {int8.reason}", fix=f"see {work / PAGE}")
    bundle = None
    if INT8 not in left_out:
        manifest = _measured(unmeasured, verification, left_out)
        write_bundle(out, manifest, _files(draft, manifest, parts) | pages)
        bundle = out
    return Finished(bundle, work / PAGE, verification, parts.curve.point, report.notes)


def _verdict(verification: Verification) -> Verdict:
    return next(each for each in verification.artifacts if each.file == INT8)


def _manifest(draft: Bundle, parts: Parts) -> Manifest:
    """Return the manifest of every part, unmeasured."""
    decoder = draft.manifest.decoder
    anchors = digest_of(draft.path / decoder.anchors) if decoder.anchors else None
    return msgspec.structs.replace(
        draft.manifest,
        artifact=tuple(parts.artifacts()),
        labels_sha256=digest_of(draft.path / draft.manifest.labels),
        decoder=msgspec.structs.replace(decoder, anchors_sha256=anchors),
        golden=GOLDEN,
        golden_sha256=parts.golden_sha256,
        accuracy=msgspec.structs.replace(draft.manifest.accuracy, state="unmeasured"),
    )


def _measured(manifest: Manifest, verification: Verification, left_out: dict[str, str]) -> Manifest:
    """Return `manifest` with what was measured, without what is left out."""
    values = {verdict.file: verdict.value for verdict in verification.artifacts}
    kept = (each for each in manifest.artifact if each.file not in left_out)
    return msgspec.structs.replace(
        manifest,
        artifact=tuple(msgspec.structs.replace(each, value=values[each.file]) for each in kept),
        accuracy=msgspec.convert(
            {
                "metric": IN_MANIFEST.get(verification.metric, verification.metric),
                "floor": verification.floor,
                "state": "measured",
            },
            type(manifest.accuracy),
        ),
    )


def _files(draft: Bundle, manifest: Manifest, parts: Parts) -> dict[str, Path | bytes]:
    beside = [manifest.labels, manifest.decoder.anchors, "LICENSE"]
    kept: dict[str, Path | bytes] = {
        name: draft.path / name for name in beside if name and (draft.path / name).is_file()
    }
    weights = {each.file for each in manifest.artifact}
    kept |= {name: file for name, file in parts.files().items() if name in weights}
    return kept | {GOLDEN: parts.golden}
