"""Corruptions are the same every time and worse with severity; what is measured through them adds up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.bundle import Bundle, load_bundle
from agent.errors import BadData
from agent.messages import Detections, Frame
from agent.starter import starter_bundle
from calibration.bootstrap import Figure
from calibration.corruptions import CORRUPTIONS, SEVERITIES, corrupt, picture_of, pixels_of
from calibration.record import Robustness
from calibration.report.robustnesspage import write_robustness
from calibration.robustness import measure
from calibration.spoiled import CONDITIONS, Pair, look, open_pair, samples, under

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STARTER = starter_bundle()
RANDOM = {"noise", "dark", "rain"}


def scene(lines: int = 120, columns: int = 160) -> NDArray[np.uint8]:
    """Return a picture with edges, flat parts and colours."""
    y, x = np.mgrid[:lines, :columns]
    waves = np.stack([np.sin(x / 7), np.sin(y / 5), np.sin((x + y) / 11)], axis=-1)
    grain = 20 * ((x // 3 + y // 3) % 2)
    return (118 + 80 * waves + grain[..., None]).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_corruption_depends_on_its_seed_alone(name: str, severity: int) -> None:
    """The same seed gives the same picture; another one another, where anything is random at all."""
    pixels = scene()
    before = pixels.copy()
    spoiled = corrupt(pixels, name, severity, seed=5)
    assert spoiled.shape == pixels.shape
    assert spoiled.dtype == np.uint8
    assert (pixels == before).all()
    assert (spoiled == corrupt(pixels, name, severity, seed=5)).all()
    assert (spoiled == corrupt(pixels, name, severity, seed=6)).all() == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_is_worse_with_severity(name: str) -> None:
    """The picture gets farther from what it was with every step."""
    pixels = scene(480, 640)
    error = [
        np.square(corrupt(pixels, name, level, seed=1) - pixels.astype(float)).mean() for level in SEVERITIES
    ]
    assert 1 < error[0] < error[1] < error[2]


@pytest.mark.parametrize("name", ["blur", "rain"])
def test_corruption_grows_with_the_picture(name: str) -> None:
    """A picture of twice the lines, made small again, is spoiled about as much."""
    small = scene(240, 320)
    large = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
    shrunk = cv2.resize(corrupt(large, name, 2, seed=1), (320, 240), interpolation=cv2.INTER_AREA)
    error_large = np.square(shrunk - small.astype(float)).mean()
    error_small = np.square(corrupt(small, name, 2, seed=1) - small.astype(float)).mean()
    assert 0.4 < error_large / error_small < 2.5


def test_darkest_is_as_documented() -> None:
    """Gamma 3 and 0.38 of the light, as the clip pets_night of the test data was made."""
    grey = np.full((64, 64, 3), 200, np.uint8)
    expected = 255 * (200 / 255) ** 3 * 0.38
    assert corrupt(grey, "dark", 3, seed=0).mean() == pytest.approx(expected, abs=1.5)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_pixels_come_back_from_a_picture(lines: int, columns: int, seed: int) -> None:
    """What a corruption made is what the preprocessing gets."""
    pixels = np.random.default_rng(seed).integers(0, 256, (lines, columns, 3)).astype(np.uint8)
    assert (pixels_of(picture_of(pixels)) == pixels).all()


class BrightSpots:
    """Finds a box in each quarter that is brighter than a threshold: a network that night makes blind."""

    def __init__(self, bundle: Bundle, threshold: float) -> None:
        self.bundle, self.threshold = bundle, threshold

    def detect(self, frame: Frame, min_score: float) -> Detections:
        grey = pixels_of(frame.picture).mean(axis=2)
        lines, columns = (side // 2 for side in grey.shape)
        boxes = [
            (x / 2, y / 2, x / 2 + 0.5, y / 2 + 0.5)
            for y in (0, 1)
            for x in (0, 1)
            if grey[y * lines : (y + 1) * lines, x * columns : (x + 1) * columns].mean() > self.threshold
        ]
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.full(len(boxes), 0.9, np.float32),
            np.zeros(len(boxes), np.int32),
        )
        return found[found.score >= min_score]

    def close(self) -> None:
        pass


@pytest.fixture
def frames() -> list[tuple[str, Frame]]:
    """Six clips of one frame with two bright quarters each."""
    made = []
    for number in range(6):
        pixels = np.full((48, 64, 3), 40, np.uint8)
        pixels[:24, :32] = pixels[24:, 32:] = 220 - 2 * number
        made.append((f"{number}.png", Frame("c", 0, 0.0, 0.0, 0.0, picture_of(pixels))))
    return made


def measured(
    bundle: Bundle,
    frames: list[tuple[str, Frame]],
    reference: float,
    candidate: float,
    labels: Path | None = None,
) -> Robustness:
    """Return what two networks that need so much light reach."""
    pair = pair_of(bundle, reference, candidate)
    return measure(pair, look(pair, frames), labels=labels)


def pair_of(bundle: Bundle, reference: float, candidate: float) -> Pair:
    """Return two networks that need so much light."""
    runners: tuple[Any, Any] = BrightSpots(bundle, reference), BrightSpots(bundle, candidate)
    return Pair(*runners, "fp32.onnx", "int8.tflite")


def test_equal_networks_lose_nothing_to_each_other(bundle: Any, frames: list[tuple[str, Frame]]) -> None:
    """Both are the same under every corruption, and the clean picture agrees with itself."""
    outcome = measured(bundle("yolox"), frames, 100, 100)
    assert outcome.metric == "agreement_ap50"
    assert len(outcome.results) == len(CONDITIONS) - 1 == 24
    assert outcome.clean.reference == outcome.clean.candidate == pytest.approx(1.0)
    assert all(result.lost == Figure(0, 0, 0) for result in (*outcome.results, outcome.mean))
    assert outcome == measured(bundle("yolox"), frames, 100, 100)


def test_network_that_needs_more_light_loses_in_the_dark(
    bundle: Any, frames: list[tuple[str, Frame]]
) -> None:
    """The difference shows where the corruption is, and in the mean, with an interval that leaves out nothing lost."""
    outcome = measured(bundle("yolox"), frames, 100, 150)
    by_condition = {(each.corruption, each.severity): each for each in outcome.results}
    assert outcome.clean.lost.value == 0
    assert by_condition["dark", 1].lost.value == pytest.approx(1.0)
    assert by_condition["dark", 1].lost.low > 0.9
    assert by_condition["dark", 3].reference == 0
    assert by_condition["jpeg", 3].lost.value == 0
    assert 0 < outcome.mean.lost.value < 0.5
    mean = np.mean([each.lost.value for each in outcome.results])
    assert outcome.mean.lost.value == pytest.approx(mean)


def coco_file(folder: Path, boxes: Sequence[Sequence[float]]) -> Path:
    """Write labels: each of the six pictures has `boxes`."""
    images = [{"id": 10 + n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(6)]
    annotations = [
        {
            "id": 100 * image["id"] + n,
            "image_id": image["id"],
            "category_id": 7,
            "bbox": list(box),
            "area": 64.0,
        }
        for image in images
        for n, box in enumerate(boxes)
    ]
    labels = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "class 0"}]}
    file = folder / "labels.json"
    file.write_bytes(msgspec.json.encode(labels))
    return file


def test_labels_are_the_truth_where_there_are_any(
    bundle: Any, frames: list[tuple[str, Frame]], tmp_path: Path
) -> None:
    """With labels the float network itself can be right or wrong, clean or not."""
    right = coco_file(tmp_path, [(0, 0, 32, 24), (32, 24, 32, 24)])
    outcome = measured(bundle("yolox"), frames, 100, 150, right)
    assert outcome.metric == "map"
    assert (outcome.clean.reference, outcome.clean.candidate) == pytest.approx((1.0, 1.0))
    wrong = coco_file(tmp_path, [(40, 0, 8, 8)])
    assert measured(bundle("yolox"), frames, 100, 150, wrong).clean.reference == 0


def test_reference_that_finds_nothing_is_an_error(bundle: Any, frames: list[tuple[str, Frame]]) -> None:
    """There is nothing to agree with."""
    with pytest.raises(BadData, match="the float network finds nothing to compare with: 6 frames"):
        measured(bundle("yolox"), frames, 256, 100)


def test_classifier_is_compared_by_its_best_class(
    bundle: Any, frames: list[tuple[str, Frame]], tmp_path: Path
) -> None:
    """Without labels with the class that FP32 gives the clean picture, else with the labels."""
    outcome = measured(bundle("classification"), frames, 100, 150)
    assert (outcome.metric, outcome.clean.candidate) == ("top1_agreement", 1.0)
    labels = tmp_path / "labels.csv"
    labels.write_text("0.png,class 0\n1.png,class 2\n")
    outcome = measured(bundle("classification"), frames, 100, 150, labels)
    assert (outcome.metric, outcome.clean.candidate) == ("top1", 0.5)


def test_samples_show_every_corruption_on_one_frame(bundle: Any, frames: list[tuple[str, Frame]]) -> None:
    """The clean one first, of the first frame on which something is seen; none where nothing is."""
    dark = ("dark.png", Frame("c", 0, 0.0, 0.0, 0.0, picture_of(np.zeros((48, 64, 3), np.uint8))))
    pair = pair_of(bundle("yolox"), 100, 100)
    shown = list(samples(pair, look(pair, [dark, *frames])))
    assert [sample.name for sample in shown] == ["clean", *CORRUPTIONS]
    assert len(shown[0].reference) == 2
    assert list(samples(pair, look(pair, [dark]))) == []


def test_seed_decides_what_is_random(frames: list[tuple[str, Frame]]) -> None:
    """The same for the same seed and frame, another for the next frame and the next seed."""
    noise = (("noise", 1),)

    def pixels(number: int, seed: int) -> bytes:
        clip, _ = frames[number]
        (_, frame), *_ = under(noise, clip, frames[0][1], seed)
        return pixels_of(frame.picture).tobytes()

    assert pixels(0, 1) == pixels(0, 1)
    assert len({pixels(0, 1), pixels(1, 1), pixels(0, 2)}) == 3


def test_page_tells_the_figures_and_shows_the_frames(
    bundle: Any, frames: list[tuple[str, Frame]], tmp_path: Path
) -> None:
    """robustness.html and robustness.json of a network that loses in the dark."""
    pair = pair_of(bundle("yolox"), 100, 150)
    found = look(pair, frames)
    outcome = measure(pair, found)
    write_robustness(outcome, samples(pair, found), tmp_path)
    page = (tmp_path / "robustness.html").read_text()
    assert page.count("<svg") == len(CORRUPTIONS)
    assert page.count("data:image/jpeg") == 2 * (1 + len(CORRUPTIONS))
    assert '<span class="bad">100.0 %</span>' in page
    assert msgspec.json.decode((tmp_path / "robustness.json").read_bytes(), type=Robustness) == outcome


def test_pair_of_the_starter_is_int8_and_float() -> None:
    """What a device runs, and the float network beside it."""
    opened = open_pair(load_bundle(STARTER))
    opened.close()
    assert (opened.reference_file, opened.candidate_file) == ("fp16.onnx", "int8.tflite")


def test_bundle_without_two_networks_is_an_error(bundle: Any) -> None:
    """An INT8 one alone says how to name its partner; so does a float one."""
    alone = bundle("yolox")
    fault = r"no two networks to compare: m\.tflite; name a float network by --reference"
    with pytest.raises(BadData, match=fault):
        open_pair(alone)
    artifact = msgspec.structs.replace(alone.manifest.artifact[0], precision="fp32")
    manifest = msgspec.structs.replace(alone.manifest, artifact=(artifact,))
    with pytest.raises(BadData, match=fault):
        open_pair(Bundle(alone.path, manifest, alone.labels))
