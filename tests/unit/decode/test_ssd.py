"""SSD: raw codes against a plain loop, and the PostProcess op's outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.decode import make_decoder
from agent.errors import BadData
from agent.messages import TensorSpec
from tests.unit.decode.reference import greedy_nms, same

OP = "TFLite_Detection_PostProcess"


def slow(codes, scores, anchors, min_score):
    """Decode anchor by anchor."""
    rows = []
    for code, row, (ymin, xmin, ymax, xmax) in zip(
        codes.tolist(), scores.tolist(), anchors.tolist(), strict=True
    ):
        score = max(row[1:])
        if score < min_score:
            continue
        h, w = ymax - ymin, xmax - xmin
        y, x = code[0] / 10 * h + (ymin + ymax) / 2, code[1] / 10 * w + (xmin + xmax) / 2
        h, w = math.exp(code[2] / 5) * h, math.exp(code[3] / 5) * w
        rows.append((score, row[1:].index(score), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return greedy_nms(rows, 0.45)


@pytest.fixture
def anchors(rng):
    """Return 40 anchors."""
    low, size = rng.random((40, 2)) * 0.7, rng.random((40, 2)) * 0.2 + 0.1
    return np.concatenate((low, low + size), 1).astype(np.float32)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("rank", [3, 4])
def test_raw_codes_are_the_plain_loop(bundle, spec, rng, anchors, labels, swapped, rank):
    """Any number of classes and either order of the outputs decode as anchor by anchor."""
    codes = rng.normal(size=(1, 40, 4)).astype(np.float32)
    scores = rng.random((1, 40, 1 + labels)).astype(np.float32)
    outputs = [codes if rank == 3 else codes[:, :, None], scores]
    expected = slow(codes[0], scores[0], anchors, 0.4)
    if labels == 3:
        assert same_order(bundle, spec, outputs, anchors, expected)
        return
    outputs = outputs[::-1] if swapped else outputs
    decoder = make_decoder(bundle("ssd", labels, anchors=anchors), tuple(map(spec, outputs)), min_score=0.4)
    assert len(expected) > 5
    assert same(decoder(outputs), expected)


def same_order(bundle, spec, outputs, anchors, expected):
    """Say whether codes before scores decode right where both have four columns."""
    decoder = make_decoder(bundle("ssd", 3, anchors=anchors), tuple(map(spec, outputs)), min_score=0.4)
    return same(decoder(outputs), expected)


def test_quantized_codes_agree_with_their_real_values(bundle, spec, rng, anchors):
    """INT8 codes and scores give what their dequantized twins give."""
    codes = rng.integers(-128, 128, (1, 40, 4)).astype(np.int8)
    scores = rng.integers(-128, 128, (1, 40, 2)).astype(np.int8)
    real = [
        (codes.astype(np.float32) - 37) * np.float32(0.109),
        (scores.astype(np.float32) + 128) * np.float32(1 / 256),
    ]
    made = bundle("ssd", 1, anchors=anchors)
    specs = spec(codes, 0.109, 37), spec(scores, 1 / 256, -128)
    found = make_decoder(made, specs, min_score=0.3)([codes, scores])
    twin = make_decoder(made, tuple(map(spec, real)), min_score=0.3)(real)
    assert len(found) > 5
    assert np.array_equal(found.xyxy, twin.xyxy)


def test_wrong_number_of_anchors_is_named(bundle, spec, anchors):
    """As many rows as anchors, or the error says both."""
    outputs = spec(np.zeros((1, 39, 4), np.float32)), spec(np.zeros((1, 39, 2), np.float32))
    with pytest.raises(BadData, match=r"\[1, 40, 4\] and \[1, 40, 2\]: \[1, 39, 4\], \[1, 39, 2\]"):
        make_decoder(bundle("ssd", 1, anchors=anchors), outputs, min_score=0.3)


def outputs_of_the_op():
    """Return boxes, classes, scores, count of two detections and eight empty places."""
    boxes = np.zeros((1, 10, 4), np.float32)
    boxes[0, 0], boxes[0, 1] = (0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 1, 1)
    classes = np.zeros((1, 10), np.float32)
    classes[0, :2] = 2, 1
    scores = np.zeros((1, 10), np.float32)
    scores[0, :2] = 0.8, 0.6
    return [boxes, classes, scores, np.array([2], np.float32)]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ((0, 1, 2, 3), [OP, f"{OP}:1", f"{OP}:2", f"{OP}:3"]),
        ((2, 0, 3, 1), [f"StatefulPartitionedCall:{i}" for i in (1, 3, 0, 2)]),
        ((3, 0, 1, 2), ["a", "b", "c", "d"]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_the_op_is_read_in_any_order(bundle, order, names, known):
    """Names, else shapes, say which output is which, also when shapes come with the first frame only."""
    outputs = [outputs_of_the_op()[place] for place in order]
    specs = tuple(
        TensorSpec(name, output.shape if known else (), output.dtype)
        for name, output in zip(names, outputs, strict=True)
    )
    found = make_decoder(bundle("ssd_postprocess"), specs, min_score=0.05)(outputs)
    assert found.class_id.tolist() == [2, 1]
    assert found.xyxy[0].tolist() == pytest.approx([0.2, 0.1, 0.4, 0.3])


def test_the_op_with_other_outputs_is_refused(bundle, spec):
    """Three outputs, a class without label, shapes that do not go together: each is an error."""
    outputs = outputs_of_the_op()
    with pytest.raises(BadData, match="expects boxes"):
        make_decoder(bundle("ssd_postprocess"), tuple(map(spec, outputs[:3])), min_score=0.05)
    decoder = make_decoder(bundle("ssd_postprocess", 2), tuple(map(spec, outputs)), min_score=0.05)
    with pytest.raises(BadData, match="with 2 labels: 2"):
        decoder(outputs)
    outputs[1] = outputs[1][:, :9]
    with pytest.raises(BadData, match="expects boxes"):
        make_decoder(bundle("ssd_postprocess"), tuple(map(spec, outputs)), min_score=0.05)
