"""Limits in the stored domain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decode.tensors import check_finite, dequantize, stored_limit, to_detections
from agent.errors import BadData
from agent.messages import TensorSpec

quantized = st.tuples(
    st.sampled_from([np.int8, np.uint8]), st.floats(1e-4, 0.25), st.integers(-128, 127), st.floats(0.0, 1.0)
)


@given(quantized)
def test_no_candidate_is_lost_in_the_stored_domain(case):
    """What reaches the score once dequantized has passed the integer limit, for every stored value."""
    dtype, scale, zero_point, score = case
    zero_point += 128 if dtype == np.uint8 else 0
    every = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    spec = TensorSpec("scores", every.shape, every.dtype, scale, zero_point)
    limit = stored_limit(spec, score)
    passes, reaches = every >= limit, dequantize(spec, every) >= np.float32(score)
    assert limit.dtype == dtype
    assert not (reaches & ~passes).any()
    assert (passes & ~reaches).sum() <= 1 or limit in (every[0], every[-1])


def test_scores_lost_in_quantization_are_refused():
    """A tensor whose step is a quarter of the score range can't hold scores."""
    with pytest.raises(BadData, match=r"lost in its quantization: scale 2\.5"):
        stored_limit(TensorSpec("out", (1,), np.dtype(np.int8), 2.5, 0), 0.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_a_fault(bad):
    """One NaN or infinity among the scores or in a box is an error, not a detection."""
    with pytest.raises(BadData, match="not finite"):
        check_finite(np.array([0.1, bad, np.inf], np.float32))
    with pytest.raises(BadData, match="not finite"):
        to_detections(np.array([[0, 0, 1, bad]], np.float32), np.ones(1, np.float32), np.zeros(1))


def test_boxes_without_area_go():
    """A box that is a line or inside out is dropped."""
    xyxy = np.array([[0, 0, 1, 1], [0.5, 0, 0.5, 1], [0, 0.6, 1, 0.4]], np.float32)
    assert len(to_detections(xyxy, np.ones(3, np.float32), np.arange(3))) == 1
