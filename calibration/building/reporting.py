"""What a build made and measured, as the report's record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent import __version__
from agent.bundle import Artifact
from agent.bundle.files import digest_of
from calibration.building.onnxfile import external_data
from calibration.record import (
    ArtifactResult,
    CurvePoint,
    LayerError,
    Metric,
    Model,
    PictureCounts,
    Report,
    Score,
    ScoreHistogram,
    Search,
    Tool,
)
from calibration.report import Sample
from calibration.report.samples import partners

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.bundle.manifest import Precision
    from agent.messages import Detections
    from calibration.building.floatnet import FloatNetwork
    from calibration.building.onnxparts import OnnxPart
    from calibration.environments import Environment
    from calibration.footage import Footage
    from calibration.pictures import PictureSet
    from calibration.quantize.curve import Curve
    from calibration.verdict import Verdict
    from calibration.verify import Measurement

INT8, FLOAT = "int8.tflite", "fp32.tflite"
"""Names in the bundle."""
SHOWN = 6
"""Pictures on the page: those on which both differ most."""
_BINS, _LEAST_SCORE = 20, 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """All that was made. `seen` are the pictures that were calibrated on; `source` is the model as given."""

    source: Path
    network: FloatNetwork
    forms: tuple[OnnxPart, ...]
    curve: Curve
    quantizer: Environment
    golden: bytes
    seen: PictureSet
    search_floor: float

    @property
    def tools(self) -> dict[str, str]:
        """The programs that had a hand in it, with their versions."""
        return {**self.network.tools, "litert-quantizer": self.quantizer.versions["litert-quantizer"]}

    @property
    def golden_sha256(self) -> str:
        """The sha256 of `golden`."""
        return hashlib.sha256(self.golden).hexdigest()

    def files(self) -> dict[str, Path]:
        """Return the file of each artifact, by its name in the bundle."""
        found = {INT8: self.curve.point.file, FLOAT: self.network.tflite}
        if self.network.onnx:
            found["fp32.onnx"] = self.network.onnx
        return found | {form.name: form.file for form in self.forms}

    def artifacts(self) -> Iterator[Artifact]:
        """Yield each as the manifest lists it, without a value."""
        precisions: dict[str, Precision] = {form.name: form.precision for form in self.forms}
        makers = self.network.made_by | {form.name: form.made_by for form in self.forms}
        quantized = f"edge-calibrate {__version__}, litert-quantizer {self.tools['litert-quantizer']}"
        for name, file in self.files().items():
            int8 = name == INT8
            precision: Precision = "int8" if int8 else precisions.get(name, "fp32")
            yield Artifact(
                name,
                "onnx" if name.endswith(".onnx") else "tflite",
                precision,
                "nchw" if name.endswith(".onnx") else "nhwc",
                file.stat().st_size,
                digest_of(file),
                made_by=quantized if int8 else makers[name],
                calibration=self.seen.digest if precision == "int8" else None,
                open_batch=self.network.open_batch and name.endswith(".onnx"),
            )


def make_report(
    bundle: Bundle, parts: Parts, measured: Measurement, footage: Footage, left_out: dict[str, str]
) -> tuple[Report, list[Sample]]:
    """Return the record of the build, and the pictures to show with it."""
    manifest = bundle.manifest
    verification = measured.verification
    found = measured.found
    ran = FLOAT in found and INT8 in found
    reference, candidate = (found[FLOAT], found[INT8]) if ran else ((), ())
    samples = _samples(bundle, footage, reference, candidate) if manifest.task == "detect" else []
    metric: Metric = "top1_agreement" if manifest.task == "classify" else "agreement"
    notes = [*parts.network.notes, *(form.note for form in parts.forms if form.note)]
    notes += [f"{file} is left out: {reason}" for file, reason in left_out.items()]
    notes += [f"{clip} gave no picture: {why}" for clip, why in footage.skipped.items()]
    report = Report(
        model=Model(
            name=manifest.name,
            version=manifest.version,
            task=manifest.task,
            licence=manifest.licence,
            width=manifest.input.width,
            height=manifest.input.height,
            source=parts.source.name,
            source_sha256=digest_of(parts.source),
            source_data={name: digest_of(file) for name, file in external_data(parts.source).items()},
        ),
        made_by=tuple(Tool(name=name, version=version) for name, version in sorted(parts.tools.items())),
        pictures=PictureCounts(
            calibrate=len(parts.seen.pictures),
            verify=verification.frames,
            calibrate_clips=len({picture.clip for picture in parts.seen.pictures}),
            verify_clips=verification.clips,
            digest=parts.seen.digest,
        ),
        artifacts=tuple(
            _result(bundle, verdict, metric, parts.curve, verification.frames)
            for verdict in verification.artifacts
        ),
        metric=metric,
        floor=verification.floor,
        search=_search(parts, metric),
        histograms=(_histogram(INT8, reference, candidate),),
        samples=tuple(sample.name for sample in samples),
        notes=tuple(notes),
    )
    return report, samples


def _samples(
    bundle: Bundle,
    footage: Footage,
    reference: Sequence[Detections],
    candidate: Sequence[Detections],
) -> list[Sample]:
    """Return the frames on which both differ most, at the score from which the model is used."""
    threshold = bundle.manifest.decoder.score_threshold
    pairs = [
        (a[a.score >= threshold], b[b.score >= threshold]) for a, b in zip(reference, candidate, strict=True)
    ]
    different = [sum(int((~mask).sum()) for mask in partners(*pair)) for pair in pairs]
    worst = sorted(range(len(pairs)), key=lambda n: (-different[n], n))[:SHOWN]
    frames = {n: seen for n, seen in enumerate(footage.frames()) if n in worst}
    return [
        Sample(f"{clip}, picture {frame.seq}", frame, *pairs[n], bundle.labels)
        for n, (clip, frame) in ((n, frames[n]) for n in worst)
    ]


def _result(bundle: Bundle, verdict: Verdict, metric: Metric, curve: Curve, frames: int) -> ArtifactResult:
    artifact = next(each for each in bundle.manifest.artifact if each.file == verdict.file)
    figure = verdict.figures.get(metric)
    scores = (
        [Score(metric=metric, value=figure.value, low=figure.low, high=figure.high, frames=frames)]
        if figure
        else []
    )
    point = curve.point
    times = {INT8: point.ms, FLOAT: point.ms_float}
    return ArtifactResult(
        file=verdict.file,
        format=verdict.format,
        precision=verdict.precision,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        backend=verdict.backend,
        scores=tuple(scores),
        ms=times.get(verdict.file),
        int8_macs=point.int8_macs if verdict.file == INT8 else None,
        note=verdict.reason or None,
    )


def _search(parts: Parts, metric: Metric) -> Search:
    curve = parts.curve
    return Search(
        metric="top1_agreement" if metric == "top1_agreement" else "f1",
        floor=parts.search_floor,
        points=tuple(
            CurvePoint(
                label=point.label,
                accuracy=point.accuracy,
                ms=point.ms,
                ms_float=point.ms_float,
                bytes=point.bytes,
                int8_macs=point.int8_macs,
                float_ops=point.float_ops,
            )
            for point in curve.points
        ),
        chosen=curve.chosen,
        layers=tuple(LayerError(name=each.name, kind=each.kind, damage=each.damage) for each in curve.layers),
    )


def _histogram(file: str, reference: Sequence[Detections], candidate: Sequence[Detections]) -> ScoreHistogram:
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    counts = [
        np.histogram([score for found in each for score in found.score if score >= _LEAST_SCORE], edges)[0]
        for each in (reference, candidate)
    ]
    return ScoreHistogram(
        file=file,
        edges=tuple(float(edge) for edge in edges),
        reference=tuple(int(count) for count in counts[0]),
        candidate=tuple(int(count) for count in counts[1]),
    )
