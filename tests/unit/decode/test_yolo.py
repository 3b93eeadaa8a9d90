"""YOLOv8-style and end-to-end heads."""

from __future__ import annotations

import numpy as np
import pytest

from agent.decode import make_decoder
from agent.errors import BadData
from tests.unit.decode.reference import greedy_nms, same


def slow(table, unit, min_score):
    """Decode [4 + classes, n] box by box."""
    rows = []
    for column in table.T.tolist():
        score = max(column[4:])
        if score >= min_score:
            x, y, w, h = (value * u for value, u in zip(column, unit, strict=False))
            rows.append((score, column[4:].index(score), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return greedy_nms(rows, 0.45)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("units", ["pixel", "fraction"])
def test_float_is_the_plain_loop(bundle, spec, rng, transposed, units):
    """Both layouts and both units decode as box by box."""
    table = rng.random((7, 50)).astype(np.float32)
    unit = (1 / 64, 1 / 32) * 2 if units == "pixel" else (1, 1, 1, 1)
    table[:4] /= np.array(unit, np.float32)[:, None]
    stored = np.ascontiguousarray(table.T if transposed else table)[None]
    decoder = make_decoder(bundle("yolo", box_units=units), (spec(stored),), min_score=0.6)
    found = decoder([stored])
    assert len(found) > 5
    assert same(found, slow(table, unit, 0.6))


def test_quantized_agrees_with_its_real_values(bundle, spec, rng):
    """An INT8 head gives what its dequantized twin gives."""
    stored = rng.integers(-128, 128, (1, 7, 60)).astype(np.int8)
    real = (stored.astype(np.float32) + 128) * np.float32(1 / 255)
    made = bundle("yolo", box_units="fraction")
    found = make_decoder(made, (spec(stored, 1 / 255, -128),), min_score=0.5)([stored])
    twin = make_decoder(made, (spec(real),), min_score=0.5)([real])
    assert len(found) > 5
    assert np.array_equal(found.xyxy, twin.xyxy)
    assert np.array_equal(found.class_id, twin.class_id)


def test_pixels_and_scores_in_one_int8_tensor_are_refused(bundle, spec):
    """At a step of 2.5 pixels no score survives: said at the start, not seen as silence."""
    with pytest.raises(BadData, match="scores are lost"):
        make_decoder(bundle("yolo"), (spec(np.zeros((1, 7, 50), np.int8), 2.5, -128),), min_score=0.3)


@pytest.mark.parametrize("shape", [(1, 8, 50), (7, 50), (2, 7, 50), (1, 50, 8)])
def test_misfits_are_named(bundle, spec, shape):
    """A channel count other than 4 + labels is refused with both shapes."""
    with pytest.raises(BadData, match=r"expects one output of \[1, 7, n\] or \[1, n, 7\]") as error:
        make_decoder(bundle("yolo"), (spec(np.zeros(shape, np.float32)),), min_score=0.3)
    assert str(list(shape)) in str(error.value)


def test_nan_is_a_fault(bundle, spec):
    """NaN in one class score of one box is found."""
    table = np.zeros((1, 7, 50), np.float32)
    table[0, 5, 20] = np.nan
    with pytest.raises(BadData, match="not finite"):
        make_decoder(bundle("yolo"), (spec(table),), min_score=0.3)([table])


def test_end_to_end_rows_are_taken_as_they_are(bundle, spec):
    """Rows above the floor come out by score, in fractions, with no NMS."""
    rows = [[0, 0, 32, 16, 0.5, 2], [0, 0, 32, 16, 0.9, 2], [16, 8, 64, 32, 0.7, 0], [0, 0, 9, 9, 0.01, 1]]
    table = np.array([rows], np.float32)
    found = make_decoder(bundle("yolo_e2e"), (spec(table),), min_score=0.05)([table])
    assert found.class_id.tolist() == [2, 0, 2]
    assert found.score.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert found.xyxy[1].tolist() == [0.25, 0.25, 1, 1]


def test_end_to_end_refuses_what_it_cannot_name(bundle, spec):
    """A class beyond the labels and a table of other columns are errors."""
    table = np.array([[[0, 0, 9, 9, 0.9, 3]]], np.float32)
    with pytest.raises(BadData, match="with 3 labels: 3"):
        make_decoder(bundle("yolo_e2e"), (spec(table),), min_score=0.05)([table])
    with pytest.raises(BadData, match=r"expects one output of \[1, n, 6\]"):
        make_decoder(bundle("yolo_e2e"), (spec(np.zeros((1, 300, 7))),), min_score=0.05)
