"""YOLOX against a plain loop over cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.decode import make_decoder
from agent.errors import BadData
from tests.unit.decode.reference import greedy_nms, same

CELLS = 8 * 4 + 4 * 2 + 2 * 1


def slow(table, min_score, iou_threshold):
    """Decode a 64x32 input's table cell by cell."""
    rows, at = [], 0
    for stride in (8, 16, 32):
        for y in range(32 // stride):
            for x in range(64 // stride):
                o = [float(v) for v in table[at]]
                at += 1
                kind = max(range(len(o) - 5), key=lambda k: (o[5 + k], -k))
                score = min(o[4], 1) * min(o[5 + kind], 1)
                if score < min_score:
                    continue
                cx, cy = (o[0] + x) * stride / 64, (o[1] + y) * stride / 32
                w, h = math.exp(o[2]) * stride / 64, math.exp(o[3]) * stride / 32
                rows.append((score, kind, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)))
    return greedy_nms(rows, iou_threshold)


@pytest.mark.parametrize("min_score", [0.05, 0.3, 0.9])
def test_float_is_the_plain_loop(bundle, spec, rng, min_score):
    """Random tables decode as cell by cell."""
    for _ in range(5):
        table = rng.random((1, CELLS, 8), np.float32)
        decoder = make_decoder(bundle("yolox"), (spec(table),), min_score=min_score)
        assert same(decoder([table]), slow(table[0], min_score, 0.45))


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.int8, -30), (np.uint8, 98)])
def test_quantized_is_the_plain_loop(bundle, spec, rng, dtype, zero_point):
    """A quantized table decodes as its real values do, scores above 1 cut to 1."""
    range_ = np.iinfo(dtype)
    table = rng.integers(range_.min, range_.max + 1, (1, CELLS, 8)).astype(dtype)
    real = (table[0].astype(np.float64) - zero_point) * 0.0266
    decoder = make_decoder(bundle("yolox"), (spec(table, 0.0266, zero_point),), min_score=0.05)
    found = decoder([table])
    assert found.score.max() <= 1
    expected = slow(real, 0.05, 0.45)
    assert len(found) == len(expected) > 5
    # Quantized scores tie, and rounding then decides the order: compare as sets.
    assert sorted(found.score.tolist()) == pytest.approx(sorted(row[0] for row in expected), abs=1e-5)


def test_an_empty_frame_is_empty(bundle, spec):
    """No objectness, no boxes."""
    table = np.zeros((1, CELLS, 8), np.float32)
    assert len(make_decoder(bundle("yolox"), (spec(table),), min_score=0.05)([table])) == 0


@pytest.mark.parametrize("shape", [(1, CELLS, 9), (1, CELLS + 1, 8), (CELLS, 8), (1, 8, CELLS)])
def test_misfits_are_named(bundle, spec, shape):
    """Other shapes than labels and input size ask for are refused with both shapes."""
    with pytest.raises(BadData, match=r"expects one output of \[1, 42, 8\]") as error:
        make_decoder(bundle("yolox"), (spec(np.zeros(shape, np.float32)),), min_score=0.3)
    assert str(list(shape)) in str(error.value)


@pytest.mark.parametrize("column", [0, 2, 4, 5])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_a_fault(bundle, spec, column, bad):
    """NaN and infinity in a box or a score stop the decoder; a class score of infinity is cut to 1."""
    table = np.zeros((1, CELLS, 8), np.float32)
    table[0, 3, 4:6] = 0.9
    table[0, 3, column] = bad
    decoder = make_decoder(bundle("yolox"), (spec(table),), min_score=0.3)
    if column == 5 and bad == np.inf:
        assert decoder([table]).score.tolist() == [np.float32(0.9)]
        return
    with pytest.raises(BadData, match="not finite"):
        decoder([table])
