"""CenterNet against a plain loop over points."""

from __future__ import annotations

import numpy as np
import pytest

from agent.decode import make_decoder
from agent.errors import BadData
from tests.unit.decode.reference import same


def slow(heat, reach, min_score):
    """Find the 3x3 peaks point by point, of equals the first, in a map of a 64x32 input at stride 4."""
    height, width, classes = heat.shape
    rows = []
    for y in range(height):
        for x in range(width):
            for c in range(classes):
                me = (heat[y, x, c], -y, -x)
                around = [
                    (heat[j, i, c], -j, -i)
                    for j in range(max(0, y - 1), min(height, y + 2))
                    for i in range(max(0, x - 1), min(width, x + 2))
                ]
                if me[0] >= min_score and max(around) == me:
                    left, top, right, bottom = map(float, reach[y, x])
                    x1, x2 = (4 * x - left) / 64, (4 * x + right) / 64
                    rows.append((float(me[0]), c, (x1, (4 * y - top) / 32, x2, (4 * y + bottom) / 32)))
    return sorted(rows, key=lambda row: -row[0])[:100]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("levels", [None, 4])
def test_peaks_are_the_plain_loop(bundle, spec, rng, swapped, levels):
    """Peaks and boxes are those of point by point, also on maps full of equal values."""
    heat = rng.random((1, 8, 16, 3)).astype(np.float32)
    if levels:
        heat = np.floor(heat * levels) / np.float32(levels)
    reach = rng.random((1, 8, 16, 4)).astype(np.float32) * 10 + 1
    outputs = [reach, heat] if swapped else [heat, reach]
    found = make_decoder(bundle("centernet"), tuple(map(spec, outputs)), min_score=0.5)(outputs)
    expected = slow(heat[0], reach[0], 0.5)
    assert len(expected) > 5
    assert same(found, expected)


def test_nothing_above_the_floor_is_empty(bundle, spec):
    """A cold map has no objects."""
    outputs = [np.zeros((1, 8, 16, 3), np.float32), np.ones((1, 8, 16, 4), np.float32)]
    assert len(make_decoder(bundle("centernet"), tuple(map(spec, outputs)), min_score=0.05)(outputs)) == 0


def test_misfits_are_named(bundle, spec):
    """Another number of classes is refused with both shapes."""
    outputs = spec(np.zeros((1, 8, 16, 80))), spec(np.zeros((1, 8, 16, 4)))
    with pytest.raises(BadData, match=r"\[1, h, w, 3\] and \[1, h, w, 4\]: \[1, 8, 16, 80\]"):
        make_decoder(bundle("centernet"), outputs, min_score=0.05)


def test_nan_is_a_fault(bundle, spec):
    """NaN anywhere in the map is found."""
    outputs = [np.zeros((1, 8, 16, 3), np.float32), np.ones((1, 8, 16, 4), np.float32)]
    outputs[0][0, 3, 3, 1] = np.nan
    with pytest.raises(BadData, match="not finite"):
        make_decoder(bundle("centernet"), tuple(map(spec, outputs)), min_score=0.05)(outputs)
