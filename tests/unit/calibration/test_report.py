"""report.json reads back as written, and report.html is one file that says what the report says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import av
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadData, CannotCreate
from agent.messages import Detections, Frame
from calibration import record
from calibration.report import Sample, write_report
from calibration.report.samples import PICTURE_PX, partners, show
from calibration.report.writing import report_page

share = st.floats(0, 1)
positive = st.floats(1e-3, 1e6)
name = st.text(max_size=12)
score = st.builds(
    record.Score,
    metric=st.sampled_from(["agreement", "top1_agreement", "map", "map50", "top1"]),
    value=share,
    low=share,
    high=share,
    frames=st.integers(0, 10**6),
)
artifact = st.builds(
    record.ArtifactResult,
    file=name,
    format=st.sampled_from(["tflite", "onnx"]),
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
    bytes=st.integers(0, 2**40),
    sha256=name,
    backend=st.none() | name,
    scores=st.lists(score, max_size=2).map(tuple),
    ms=st.none() | positive,
    int8_macs=st.none() | share,
    note=st.none() | name,
)
point = st.builds(
    record.CurvePoint,
    label=name,
    accuracy=share,
    ms=positive,
    ms_float=positive,
    bytes=st.integers(1, 2**40),
    int8_macs=share,
    float_ops=st.lists(name, max_size=3).map(tuple),
)
layer = st.builds(record.LayerError, name=name, kind=name, damage=st.floats(0, 1e6))


@st.composite
def searches(draw: st.DrawFn) -> record.Search:
    points = draw(st.lists(point, min_size=1, max_size=5).map(tuple))
    return record.Search(
        metric="f1",
        floor=draw(share),
        points=points,
        chosen=draw(st.integers(0, len(points) - 1)),
        layers=draw(st.lists(layer, max_size=4).map(tuple)),
    )


@st.composite
def histograms(draw: st.DrawFn) -> record.ScoreHistogram:
    edges = tuple(sorted(draw(st.sets(share, min_size=2, max_size=6))))
    counts = st.lists(st.integers(0, 10**6), min_size=len(edges) - 1, max_size=len(edges) - 1).map(tuple)
    return record.ScoreHistogram(file=draw(name), edges=edges, reference=draw(counts), candidate=draw(counts))


reports = st.builds(
    record.Report,
    model=st.builds(
        record.Model,
        name=name,
        version=st.integers(1, 2**31),
        task=name,
        licence=name,
        width=st.integers(8, 8192),
        height=st.integers(8, 8192),
        source=name,
        source_sha256=name,
        source_data=st.dictionaries(name, name, max_size=2),
    ),
    made_by=st.lists(st.builds(record.Tool, name=name, version=name), max_size=3).map(tuple),
    pictures=st.builds(
        record.PictureCounts,
        calibrate=st.integers(0, 500),
        verify=st.integers(0, 500),
        calibrate_clips=st.integers(0, 500),
        verify_clips=st.integers(0, 500),
        digest=name,
    ),
    artifacts=st.lists(artifact, max_size=3).map(tuple),
    metric=st.just("agreement"),
    floor=share,
    search=st.none() | searches(),
    histograms=st.lists(histograms(), max_size=2).map(tuple),
    samples=st.lists(name, max_size=2).map(tuple),
    notes=st.lists(name, max_size=2).map(tuple),
)


def full() -> record.Report:
    """Return a report with something in every part."""
    points = tuple(
        record.CurvePoint(
            label=f"{n} in float",
            accuracy=0.7 + n / 100,
            ms=4 + n / 10,
            ms_float=9.5,
            bytes=10**6 + n,
            int8_macs=1 - n / 100,
        )
        for n in range(0, 25, 5)
    )
    layers = tuple(record.LayerError(name=f"conv{i}", kind="CONV_2D", damage=i / 10) for i in range(6))
    good = record.Score(metric="agreement", value=0.953, low=0.94, high=0.96, frames=64)
    return record.Report(
        model=record.Model(
            name="net",
            version=3,
            task="detect",
            licence="MIT",
            width=64,
            height=64,
            source="net.onnx",
            source_sha256="ab",
        ),
        made_by=(record.Tool(name="edge-calibrate", version="0.1.0"),),
        pictures=record.PictureCounts(
            calibrate=20, verify=10, calibrate_clips=4, verify_clips=2, digest="cd"
        ),
        artifacts=(
            record.ArtifactResult(
                file="int8.tflite",
                format="tflite",
                precision="int8",
                bytes=1234720,
                sha256="ef",
                scores=(good,),
                ms=4.2,
            ),
            record.ArtifactResult(
                file="fp16.onnx",
                format="onnx",
                precision="fp16",
                bytes=2_000_000,
                sha256="01",
                note="no runtime",
            ),
        ),
        metric="agreement",
        floor=0.9,
        search=record.Search(metric="f1", floor=0.9, points=points, chosen=4, layers=layers),
        histograms=(
            record.ScoreHistogram(
                file="int8.tflite", edges=(0.0, 0.5, 1.0), reference=(9, 3), candidate=(8, 4)
            ),
        ),
        notes=("hard-swish fused",),
    )


def sample(boxes: int = 2, *, width: int = 96, height: int = 64) -> Sample:
    """Return a grey picture with `boxes` boxes of the reference, the candidate lacking the last."""
    picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), format="rgb24")
    xyxy = np.linspace(0, 0.6, boxes, dtype=np.float32)[:, None] + np.array([0, 0, 0.3, 0.3], np.float32)
    found = Detections(
        xyxy.reshape(boxes, 4), np.linspace(0.9, 0.5, boxes, dtype=np.float32), np.zeros(boxes, np.int32)
    )
    return Sample("clip <1>", Frame("c", 0, 0.0, 0.0, 0.0, picture), found, found[:-1], ("person",))


@given(reports)
def test_report_reads_back_as_written(report: record.Report) -> None:
    """Every report survives report.json, and is written with the same bytes again."""
    text = record.dump(report)
    read = record.parse_report(text)
    assert read == report
    assert record.dump(read) == text


@given(st.binary(max_size=60) | st.integers(0, 1200).map(lambda end: record.dump(full())[:end]))
def test_what_is_no_report_is_bad_data(text: bytes) -> None:
    """Garbage and a report that was cut off are one line, never a traceback."""
    with pytest.raises(BadData, match=r"report\.json is no report"):
        record.parse_report(text)


def test_report_of_another_schema_is_refused() -> None:
    """A newer report says what to do."""
    newer = msgspec.structs.replace(full(), schema=2)
    with pytest.raises(BadData, match="schema: 2; this version reads schema 1"):
        record.parse_report(record.dump(newer))


def test_numpy_numbers_are_numbers() -> None:
    """Figures come from NumPy as often as not."""
    tool = record.LayerError(name="a", kind="ADD", damage=np.float64(0.5))
    assert b'"damage": 0.5' in record.dump(tool)


def test_what_json_cannot_hold_is_refused() -> None:
    """An accuracy that is no number would be read back as nothing."""
    with pytest.raises(BadData, match="leave out what could not be measured"):
        record.Score(metric="map", value=float("nan"), low=0, high=1, frames=3)


def test_parts_that_do_not_fit_are_refused() -> None:
    """A chosen point that is not there, bins without counts, bounds that fall."""
    points = full().search.points  # type: ignore[union-attr]
    with pytest.raises(BadData, match="there are 5 points"):
        record.Search(metric="f1", floor=0.9, points=points, chosen=5)
    with pytest.raises(BadData, match="one edge more than counts"):
        record.ScoreHistogram(file="a", edges=(0, 1), reference=(1, 2), candidate=(1,))
    with pytest.raises(BadData, match="must rise"):
        record.ScoreHistogram(file="a", edges=(0, 1, 1), reference=(1, 2), candidate=(1, 2))


def test_page_is_one_file_that_says_what_the_report_says(tmp_path: Path) -> None:
    """Figures, choice, notes and pictures are in it, and nothing is fetched from anywhere."""
    write_report(full(), tmp_path, [sample()])
    assert record.parse_report((tmp_path / "report.json").read_bytes()) == full()
    page = (tmp_path / "report.html").read_text()
    for said in (
        "net 3",
        "95.3 %",
        "94.0 % to 96.0 %",
        "20 in float",
        "unmeasured",
        "no runtime",
        "(1 lost, 0 added)",
    ):
        assert said in page
    fetched = set(re.findall(r'(?:src|href)="([^"]{0,16})', page))
    assert all(link.startswith(("data:image/jpeg", "#")) for link in fetched)
    links = re.findall(r"https?://[^\"'\s<]+", page)
    assert set(links) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    svgs = re.findall(r"<svg\b.*?</svg>", page, re.DOTALL)
    assert len(svgs) == 4
    for svg in svgs:
        ET.fromstring(svg)  # noqa: S314 - our own
    assert len(page) < 200_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    ("floor", "chosen", "told"),
    [
        (0.79, 2, "the least work in float of those that reach the aim of 0.790"),
        (0.95, 4, "the best, as none reaches the aim of 0.950"),
    ],
)
def test_page_says_why_a_point_was_taken(floor: float, chosen: int, told: str) -> None:
    """By the aim of the search, and how many points reach it."""
    search = full().search
    assert search is not None
    taken = msgspec.structs.replace(search, floor=floor, chosen=chosen)
    assert taken.why == told
    page = report_page(msgspec.structs.replace(full(), search=taken)).decode()
    assert f"</b>, {told}: " in page


def test_page_of_a_classifier_says_agreement() -> None:
    """How often the best label is FP32's is not how often it is right; one clip is one clip."""
    score = record.Score(metric="top1_agreement", value=0.984, low=0.94, high=1.0, frames=64)
    counts = msgspec.structs.replace(full().pictures, verify_clips=1)
    artifact = msgspec.structs.replace(full().artifacts[0], scores=(score,))
    report = msgspec.structs.replace(full(), metric="top1_agreement", artifacts=(artifact,), pictures=counts)
    page = report_page(report).decode()
    assert "top-1 agreement <span" in page
    assert "in top-1 agreement." in page
    assert "20 pictures of 4 clips, measured on 10 pictures of 1 clip apart from these" in page


def test_page_escapes_what_it_is_given() -> None:
    """Names of models, layers and clips are not markup."""
    nasty = "<script>alert(1)</script>"
    plain = full()
    search = plain.search
    assert search is not None
    layers = (record.LayerError(name=nasty, kind=nasty, damage=1.0),)
    model = msgspec.structs.replace(plain.model, name=nasty)
    report = msgspec.structs.replace(
        plain, model=model, notes=(nasty,), search=msgspec.structs.replace(search, layers=layers)
    )
    page = report_page(report, [sample()])
    assert b"<script" not in page
    assert b"clip &lt;1&gt;" in page


def test_page_of_a_report_without_a_search_is_whole() -> None:
    """A classifier that needed no repair has no curve, layers, histograms or pictures."""
    bare = msgspec.structs.replace(full(), search=None, histograms=())
    page = report_page(bare).decode()
    assert "Accuracy against speed" not in page
    assert "<svg" not in page
    assert page.rstrip().endswith("</html>")


_WRITE = """
import sys
from pathlib import Path
from tests.unit.calibration.test_report import full, sample
from calibration.report import write_report
write_report(full(), Path(sys.argv[1]), [sample()])
"""


def test_same_report_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """No date, no random id, no order of a set: `build` twice must give the same bundle."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    subprocess.run(
        [sys.executable, "-c", _WRITE, str(tmp_path / "other")],
        check=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    write_report(full(), tmp_path / "own", [sample()])
    for file in ("report.json", "report.html"):
        assert (tmp_path / "own" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A file in the folder's place."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(CannotCreate, match="can't write"):
        write_report(full(), tmp_path / "taken")


def test_partners_share_class_and_place_and_each_has_one() -> None:
    """Two boxes of the reference in one place have one partner in a candidate that has one."""
    box = np.array([[0.1, 0.1, 0.4, 0.4]] * 2, np.float32)
    two = Detections(box, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32))
    one, other = two[:1], Detections(box[:1], np.array([0.9], np.float32), np.ones(1, np.int32))
    assert [side.tolist() for side in partners(two, one)] == [[True, False], [True]]
    assert [side.tolist() for side in partners(two, other)] == [[False, False], [False]]


@given(st.integers(0, 8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_partners_come_in_pairs(n: int, m: int, random: object) -> None:
    """As many boxes of the one have a partner as of the other."""
    numbers = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]

    def some(count: int) -> Detections:
        corner = numbers.uniform(0, 0.5, (count, 2))
        xyxy = np.concatenate([corner, corner + 0.4], axis=1).astype(np.float32)
        scores = numbers.uniform(0, 1, count).astype(np.float32)
        return Detections(xyxy, scores, numbers.integers(0, 2, count).astype(np.int32))

    a, b = partners(some(n), some(m))
    assert a.sum() == b.sum()


@pytest.mark.parametrize(("width", "height"), [(4, 4), (96, 64), (1920, 1080), (1080, 1920)])
@pytest.mark.parametrize("boxes", [1, 5])
def test_pictures_of_any_size_are_shown_small(width: int, height: int, boxes: int) -> None:
    """Boxes and labels at the edges and on tiny pictures are no trouble, and the longer side is bounded."""
    shown = show(sample(boxes, width=width, height=height))
    assert (shown.lost, shown.added) == (1, 0)
    assert shown.reference.startswith("data:image/jpeg;base64,")
    assert len(shown.reference) < 2 * PICTURE_PX**2
