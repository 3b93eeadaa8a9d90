"""Models tried before they run: what is broken is told from what is merely quiet."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from agent.bundle.golden import Golden
from agent.errors import BadData
from agent.messages import EngineInfo, TensorSpec
from agent.preprocess import Preprocessor
from agent.trial import compare, try_out

ANCHORS = np.tile(np.array([0.2, 0.2, 0.6, 0.6], np.float32), (40, 1))
FLOAT = np.dtype(np.float32)


class FakeEngine:
    """A network that is the function `run`, from the (1, 32, 64, 3) input to the outputs."""

    info = EngineInfo("fake", "fp32", 1, 0, 1)

    def __init__(self, run, *shapes, dtype=FLOAT, scale=0.0, zero_point=0):
        self.input = TensorSpec("in", (1, 32, 64, 3), FLOAT)
        self.outputs = tuple(
            TensorSpec(f"out{k}", shape, np.dtype(dtype), scale, zero_point) for k, shape in enumerate(shapes)
        )
        self._run = run

    def infer(self, tensor):
        """Run the function."""
        return self._run(tensor)

    def close(self):
        """Do nothing."""


def live(tensor, *shape):
    """Return numbers 0..1 of `shape` that depend on the picture."""
    return np.resize(tensor.ravel() / 255, shape).astype(np.float32)


def yolo(score):
    """Return a YOLO network with live boxes and scores by `score(tensor, shape)`."""

    def run(tensor):
        return (np.concatenate((live(tensor, 1, 4, 50), score(tensor, (1, 3, 50))), axis=1),)

    return "yolo", {}, FakeEngine(run, (1, 7, 50))


def yolox(score):
    """Return a YOLOX network with live boxes and scores by `score`."""

    def run(tensor):
        return (np.concatenate((live(tensor, 1, 42, 4), score(tensor, (1, 42, 4))), axis=2),)

    return "yolox", {}, FakeEngine(run, (1, 42, 8))


def yolo_e2e(score):
    """Return an end-to-end YOLO network with live boxes and scores by `score`."""

    def run(tensor):
        boxes, classes = live(tensor, 1, 30, 4), np.zeros((1, 30, 1), np.float32)
        return (np.concatenate((boxes, score(tensor, (1, 30, 1)), classes), axis=2),)

    return "yolo_e2e", {}, FakeEngine(run, (1, 30, 6))


def ssd(score):
    """Return an SSD network with live codes and scores by `score`; background is the rest to 1."""

    def run(tensor):
        scores = score(tensor, (1, 40, 3))
        background = 1 - scores.max(axis=2, keepdims=True)
        return live(tensor, 1, 40, 4), np.concatenate((background, scores), axis=2)

    return "ssd", {"anchors": ANCHORS}, FakeEngine(run, (1, 40, 4), (1, 40, 4))


def centernet(score):
    """Return a CenterNet with live reaches and scores by `score`."""

    def run(tensor):
        return score(tensor, (1, 8, 16, 3)), live(tensor, 1, 8, 16, 4)

    return "centernet", {}, FakeEngine(run, (1, 8, 16, 3), (1, 8, 16, 4))


FAMILIES = [yolo, yolox, yolo_e2e, ssd, centernet]


@pytest.mark.parametrize("family", FAMILIES)
def test_constant_scores_are_refused(bundle, family):
    """Boxes that live on do not hide scores that are the same everywhere, whatever the picture."""
    name, made, engine = family(lambda _, shape: np.full(shape, 0.5, np.float32))
    with pytest.raises(BadData, match=r"m\.tflite: scores are constant.*quantize it again"):
        try_out(bundle(name, **made), engine)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_zero_are_told(bundle, family, caplog):
    """A model that sees nothing at all in the trial may be sound: it runs, with a warning."""
    name, made, engine = family(lambda _, shape: np.zeros(shape, np.float32))
    try_out(bundle(name, **made), engine)
    assert "scores 0 on all trial pictures" in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_that_live_pass(bundle, family):
    """Scores that follow the picture are sound."""
    name, made, engine = family(lambda tensor, shape: live(tensor, *shape))
    try_out(bundle(name, **made), engine)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_sees_nothing_in_grey_passes(bundle, family):
    """Scores that are all zero for a flat picture, and nearly so for noise, are those of a quiet model."""

    def quiet(tensor, shape):
        scores = np.zeros(shape, np.float32)
        scores.reshape(-1, *shape[2:])[..., :2] = 1 / 256 if np.ptp(tensor) > 3 else 0
        return scores

    name, made, engine = family(quiet)
    try_out(bundle(name, **made), engine)


def test_the_picked_scores_of_the_post_process_op_say_nothing(bundle):
    """The op's scores are those of what it has picked: constant ones are no fault."""

    def run(tensor):
        zeros = np.zeros((1, 10), np.float32)
        return live(tensor, 1, 10, 4), zeros, zeros, np.array([10], np.float32)

    try_out(bundle("ssd_postprocess"), FakeEngine(run, (1, 10, 4), (1, 10), (1, 10), (1,)))


def test_outputs_that_ignore_the_picture_are_refused(bundle):
    """The same outputs for each picture: the model is dead."""
    engine = FakeEngine(lambda _: (np.array([[0.1, 0.2, 0.7]], np.float32),), (1, 3))
    with pytest.raises(BadData, match="outputs: the same for every picture"):
        try_out(bundle("classification"), engine)


def test_outputs_that_are_not_finite_are_refused(bundle):
    """NaN is no score."""
    engine = FakeEngine(lambda tensor: (live(tensor, 1, 3) * np.float32("nan"),), (1, 3))
    with pytest.raises(BadData, match="output out0: not finite"):
        try_out(bundle("classification"), engine)


def test_a_float_model_gets_the_pictures_its_manifest_means(bundle):
    """Normalized to -1..1 an exponential head is finite; of pixels 0..255 it would not be."""
    seen = []

    def run(tensor):
        seen.append(tensor)
        return (np.exp(tensor[:, 0, :3, 0] * np.float32(10)),)

    normal = {"mean": [127.5] * 3, "std": [127.5] * 3}
    try_out(bundle("classification", input_=normal), FakeEngine(run, (1, 3)))
    assert np.abs(seen[0]).max() < 0.1
    assert min(x.min() for x in seen) == pytest.approx(-1, abs=0.01)
    assert max(x.max() for x in seen) == pytest.approx(1, abs=0.01)


def golden_of(engine):
    """Return what the float network `engine` gives for two pictures of noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 64, 3), np.uint8)
    outputs = [engine.infer(one[None].astype(np.float32)) for one in pixels]
    return Golden(pixels, tuple(np.concatenate(each) for each in zip(*outputs, strict=True)))


def compared(made, engine, golden, precision):
    """Compare as `try_out` does."""
    artifact = msgspec.structs.replace(made.artifact(), precision=precision)
    preprocess = Preprocessor(made.manifest.input, engine.input, layout="nhwc")
    compare(made, engine, preprocess, golden, artifact)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_float_network_agrees_with_itself(bundle, family):
    """Whatever the order of the golden outputs: they are found by their shapes."""
    name, made, engine = family(lambda tensor, shape: live(tensor, *shape))
    golden = golden_of(engine)
    compared(bundle(name, **made), engine, golden, "fp32")
    if name == "centernet":
        compared(bundle(name, **made), engine, Golden(golden.pixels, golden.outputs[::-1]), "fp32")


@pytest.mark.parametrize(
    ("precision", "near", "far"), [("fp32", 0.998, 0.98), ("fp16", 0.98, 0.9), ("int8", 0.8, 0.4)]
)
def test_outputs_far_from_the_golden_ones_are_refused(bundle, precision, near, far):
    """Which output, how far; less than that is what the precision costs."""
    _, _, engine = centernet(lambda tensor, shape: live(tensor, *shape))
    golden = golden_of(engine)
    heat, reach = golden.outputs
    made = bundle("centernet")
    compared(made, engine, Golden(golden.pixels, (heat, reach * np.float32(near))), precision)
    with pytest.raises(BadData, match=rf"output out1: differs by .* usual at {precision}"):
        compared(made, engine, Golden(golden.pixels, (heat, reach * np.float32(far))), precision)


def test_scores_are_compared_where_boxes_hide_them(bundle):
    """In one table of boxes in pixels and scores up to 1, wrong scores would not show."""
    _, _, engine = yolo(lambda tensor, shape: live(tensor, *shape))
    golden = golden_of(engine)
    (table,) = golden.outputs
    table = table * np.array([1000] * 4 + [1] * 3, np.float32)[:, None]
    shown = FakeEngine(lambda tensor: (engine.infer(tensor)[0] * scale,), (1, 7, 50))
    scale = np.array([1000] * 4 + [1.5] * 3, np.float32)[:, None]
    with pytest.raises(BadData, match="scores: differs by"):
        compared(bundle("yolo"), shown, Golden(golden.pixels, (table,)), "fp16")


def test_golden_outputs_of_another_shape_are_refused(bundle):
    """The shapes on both sides are told."""
    _, _, engine = centernet(lambda tensor, shape: live(tensor, *shape))
    golden = golden_of(engine)
    with pytest.raises(BadData, match=r"output out1: \[1, 8, 16, 4\]; the golden file has \[1, 8, 16\]"):
        compared(
            bundle("centernet"),
            engine,
            Golden(golden.pixels, (golden.outputs[0], golden.outputs[1][..., 0])),
            "fp32",
        )


def test_what_the_graph_has_picked_is_not_compared(bundle):
    """Its rows change places at the least difference."""

    def run(tensor):
        zeros = np.zeros((1, 10), np.float32)
        return live(tensor, 1, 10, 4), zeros, zeros, np.array([10], np.float32)

    engine = FakeEngine(run, (1, 10, 4), (1, 10), (1, 10), (1,))
    pixels = np.zeros((1, 32, 64, 3), np.uint8)
    compared(bundle("ssd_postprocess"), engine, Golden(pixels, (np.ones((1, 10, 4), np.float32),)), "fp32")
