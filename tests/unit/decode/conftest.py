"""Tensors for decoder tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.messages import TensorSpec


@pytest.fixture
def spec():
    """Return a function that makes the TensorSpec of an array."""

    def make(array: Any, scale: float = 0.0, zero_point: int = 0, name: str = "output") -> TensorSpec:
        return TensorSpec(name, array.shape, array.dtype, scale, zero_point)

    return make


@pytest.fixture
def rng():
    """Return a seeded source of numbers."""
    return np.random.default_rng(7)
