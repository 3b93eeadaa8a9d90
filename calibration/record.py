"""What `report.json` and `robustness.json` hold, in frozen structs that read back as written."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import msgspec
import numpy as np

from agent.errors import BadData
from calibration.bootstrap import Figure  # noqa: TC001 - msgspec reads it

SCHEMA = 1
REPORT = "report.json"
Metric = Literal["agreement", "top1_agreement", "map", "map50", "top1"]
SearchMetric = Literal["f1", "top1_agreement"]
RobustnessMetric = Literal["map", "agreement_ap50", "top1", "top1_agreement"]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was quantized: the manifest's words, and the file that everything was made from.

    `source_data` are the files of weights that an ONNX file refers to, each with its sha256.
    """

    name: str
    version: int
    task: str
    licence: str
    width: int
    height: int
    source: str
    source_sha256: str
    source_data: dict[str, str] = {}


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A program or library that had a hand in it."""

    name: str
    version: str


class PictureCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many pictures and clips each split has; `digest` is `PictureSet.digest` of those calibrated on."""

    calibrate: int
    verify: int
    calibrate_clips: int
    verify_clips: int
    digest: str


class CurvePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One candidate of the search. `accuracy` 0..1 is on the calibration split; times are of one thread.

    `ms_float` is the float network's time, measured alternately with `ms`; `int8_macs` is the share 0..1 of the
    multiply-accumulates that run in INT8; `float_ops` names the operators left in float.
    """

    label: str
    accuracy: float
    ms: float
    ms_float: float
    bytes: int
    int8_macs: float
    float_ops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _finite("search.points", self.accuracy, self.ms, self.ms_float, self.int8_macs)

    @property
    def speedup(self) -> float:
        """How many times faster than float."""
        return self.ms_float / self.ms if self.ms else 0.0


class LayerError(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What quantizing one operator (or small group) costs, in the search's own measure: 0 is nothing."""

    name: str
    kind: str
    damage: float

    def __post_init__(self) -> None:
        _finite("search.layers", self.damage)


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole trade-off: every point tried, which was taken (an index), and the damage of each layer.

    `metric` is the search's own, and `floor` its aim in that.
    """

    metric: SearchMetric
    floor: float
    points: tuple[CurvePoint, ...]
    chosen: int
    layers: tuple[LayerError, ...] = ()
    damage_unit: str = "share of the output's error"

    @property
    def why(self) -> str:
        """Why the point was taken, as a sentence's end."""
        if self.points[self.chosen].accuracy < self.floor:
            return f"the best, as none reaches the aim of {self.floor:.3f}"
        return f"the least work in float of those that reach the aim of {self.floor:.3f}"

    def __post_init__(self) -> None:
        if not 0 <= self.chosen < len(self.points):
            raise BadData(
                "report: search.chosen", seen=self.chosen, fix=f"there are {len(self.points)} points"
            )


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure 0..1 with its 95 % bootstrap interval over `frames` pictures."""

    metric: Metric
    value: float
    low: float
    high: float
    frames: int

    def __post_init__(self) -> None:
        _finite("artifacts.scores", self.value, self.low, self.high)


class ArtifactResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the bundle: how it scored on the held-out split, nothing in `scores` when it did not run here.

    `value` is the figure that is held against the floor; `note` says why there is none. `ms` is the median time of
    one inference by one thread.
    """

    file: str
    format: str
    precision: str
    bytes: int
    sha256: str
    backend: str | None = None
    scores: tuple[Score, ...] = ()
    ms: float | None = None
    int8_macs: float | None = None
    note: str | None = None


class ScoreHistogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many detections (or classes) scored how high: FP32 beside a candidate, on the same pictures.

    `edges` are the bins' bounds, 0..1, one more than there are counts.
    """

    file: str
    edges: tuple[float, ...]
    reference: tuple[int, ...]
    candidate: tuple[int, ...]

    def __post_init__(self) -> None:
        bins = len(self.edges) - 1
        if bins < 1 or len(self.reference) != bins or len(self.candidate) != bins:
            seen = f"{len(self.edges)} edges, {len(self.reference)} and {len(self.candidate)} counts"
            raise BadData("report: histogram", seen=seen, fix="give one edge more than counts")
        if any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise BadData("report: histogram edges", seen=self.edges, fix="must rise")


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of `report.json`. `notes` are sentences for the reader: rewrites, warnings, what was left out."""

    model: Model
    made_by: tuple[Tool, ...]
    pictures: PictureCounts
    artifacts: tuple[ArtifactResult, ...]
    metric: Metric
    floor: float
    search: Search | None = None
    histograms: tuple[ScoreHistogram, ...] = ()
    samples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA


class RobustnessResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both networks reach under one corruption, 0..1, and how much less the candidate (95 % interval)."""

    corruption: str
    severity: int
    reference: float
    candidate: float
    lost: Figure


class Robustness(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The outcome, as robustness.json holds it; `mean` is over all corruptions and severities.

    "map" and "top1" are against labels; for the others what the reference finds on the clean picture is right.
    """

    model: str
    version: int
    reference: str
    candidate: str
    metric: RobustnessMetric
    frames: int
    clips: int
    seed: int
    clean: RobustnessResult
    mean: RobustnessResult
    results: tuple[RobustnessResult, ...]
    skipped: dict[str, str] = {}
    schema: int = 1


def _finite(what: str, *numbers: float) -> None:
    """Refuse what JSON has no number for."""
    if not all(map(math.isfinite, numbers)):
        raise BadData(f"report: {what}", seen=numbers, fix="leave out what could not be measured")


def dump(record: msgspec.Struct) -> bytes:
    """Return `record` as indented JSON, the same bytes for the same record."""
    return msgspec.json.format(msgspec.json.encode(record, enc_hook=_plain), indent=2) + b"\n"


def _plain(number: object) -> object:
    """Return a NumPy number as Python's own."""
    if isinstance(number, np.generic):
        return number.item()
    raise NotImplementedError(f"{type(number).__name__} has no place in a report")


def parse_report(text: bytes, *, where: str = REPORT) -> Report:
    """Read what `dump` wrote. Raises BadData that names the key."""
    try:
        report = msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fix = "`edge-calibrate build` writes it anew"
        raise BadData(f"{where} is no report", seen=error, fix=fix) from None
    if report.schema != SCHEMA:
        fix = f"this version reads schema {SCHEMA}: build again or upgrade edge-agent"
        raise BadData(f"{where}: schema", seen=report.schema, fix=fix)
    return report
