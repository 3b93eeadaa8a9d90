"""`edge-calibrate robustness` with real networks, and its corruptions beside clips that were really spoiled."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.bundle import load_bundle
from agent.capture import open_source
from agent.starter import PEOPLE, shipped_bundle
from calibration.corruptions import CORRUPTIONS, corrupt, picture_of, pixels_of
from calibration.inference import open_runner
from calibration.matching import match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.messages import Frame
    from calibration.inference import Runner

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
BUNDLE = shipped_bundle(PEOPLE)
SAMPLE = ROOT / "tests" / "data" / "sample" / "sample.mp4"
FRAMES, STEP = 200, 8

pytestmark = pytest.mark.timeout(1800)
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the test data in ../shared (real clips and models)"
)


def edge_calibrate(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "calibration", *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )


def test_people_on_the_sample_clip(tmp_path: Path) -> None:
    """Without labels, on a clip: a JSON document, and the page."""
    done = edge_calibrate(
        "robustness", BUNDLE, "--clips", SAMPLE, "--count", 2, "--json", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["metric"], outcome["frames"]) == ("agreement_ap50", 2)
    assert {result["corruption"] for result in outcome["results"]} == set(CORRUPTIONS)
    assert outcome["clean"]["reference"] == pytest.approx(1.0)
    assert outcome["clean"]["candidate"] > 0.8
    assert outcome["mean"]["reference"] < 1.0
    assert (tmp_path / "out" / "robustness.json").read_text() == done.stdout
    assert "<svg" in (tmp_path / "out" / "robustness.html").read_text()


def test_bundle_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """With the exit code of a missing file."""
    done = edge_calibrate("robustness", tmp_path / "none", "--clips", SAMPLE)
    assert done.returncode == 66
    assert "model bundle not found" in done.stderr
    assert "Traceback" not in done.stderr


@needs_data
@pytest.mark.long
def test_int8_suffers_no_more_than_float_with_labels(tmp_path: Path) -> None:
    """For people on labelled stills: mAP falls with severity, and INT8 loses under three points in the mean."""
    images = DATA / "images"
    done = edge_calibrate(
        "robustness", BUNDLE, "--clips", images / "coco_val64", "--labels", images / "coco_val64.json", "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["metric"], outcome["frames"]) == ("map", 64)
    results = {(each["corruption"], each["severity"]): each for each in outcome["results"]}
    for name in ("noise", "blur", "dark", "fog", "rain", "jpeg"):
        assert results[name, 3]["reference"] < outcome["clean"]["reference"]
    assert outcome["mean"]["lost"]["value"] < 0.03


@needs_data
@pytest.mark.long
def test_dark_and_blur_are_like_clips_that_were_spoiled_so() -> None:
    """On the first 200 frames of PETS: AP50 under "dark" 3 is near pets_night's, "blur" 2 and 3 enclose pets_blur's."""
    bundle = load_bundle(BUNDLE)
    runner = open_runner(bundle, bundle.artifact())
    clean = frames(DATA / "video" / "vtest_pets09_s2l1.avi")
    drift = DATA / "video" / "drift"
    assert ap50(runner, spoiled(clean, "dark", 3)) == pytest.approx(
        ap50(runner, frames(drift / "pets_night.mp4")), abs=0.12
    )
    blurred = ap50(runner, frames(drift / "pets_blur.mp4"))
    assert ap50(runner, spoiled(clean, "blur", 3)) < blurred < ap50(runner, spoiled(clean, "blur", 2))


def frames(clip: Path) -> list[Frame]:
    """Return every STEP-th of the first FRAMES frames."""
    source = open_source(str(clip), camera="test", pace="fastest")
    try:
        return [
            frame for frame, _ in zip(source.frames(), range(FRAMES), strict=False) if frame.seq % STEP == 0
        ]
    finally:
        source.close()


def spoiled(clean: Sequence[Frame], name: str, severity: int) -> list[Frame]:
    """Return the frames under one corruption."""
    return [
        replace(frame, picture=picture_of(corrupt(pixels_of(frame.picture), name, severity, seed=frame.seq)))
        for frame in clean
    ]


def ap50(runner: Runner, seen: Sequence[Frame]) -> float:
    """Return the average precision at IoU 0.5 against the ground truth of PETS09-S2L1."""
    wanted = {frame.seq for frame in seen}
    with (DATA / "video" / "gt" / "PETS09-S2L1.gt.txt").open() as lines:
        rows = [[float(value) for value in row] for row in csv.reader(lines)]
    truth = [
        {"image_id": int(row[0]) - 1, "category_id": 1, "bbox": row[2:6]}
        for row in rows
        if row[6] and int(row[0]) - 1 in wanted
    ]
    found = []
    for frame in seen:
        width, height = frame.size
        detections = runner.detect(frame, 0.01)
        for (x1, y1, x2, y2), score in zip(detections.xyxy.tolist(), detections.score.tolist(), strict=True):
            bbox = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
            found.append({"image_id": frame.seq, "category_id": 1, "bbox": bbox, "score": score})
    return float(match(truth, found, sorted(wanted), np.array([0.5])).precision()[0])
