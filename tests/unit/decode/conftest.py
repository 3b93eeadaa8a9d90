"""Bundles and tensors for decoder tests, made in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.bundle import Bundle, Manifest
from agent.messages import TensorSpec


@pytest.fixture
def bundle():
    """Return a function that makes a bundle of a family without files."""

    def make(
        family: str, labels: int = 3, size: tuple[int, int] = (64, 32), anchors: Any = None, **decoder: Any
    ) -> Bundle:
        manifest = msgspec.convert(
            {
                "name": "test",
                "version": 1,
                "task": "classify" if family == "classification" else "detect",
                "licence": "none",
                "labels": "labels.txt",
                "input": {"width": size[0], "height": size[1]},
                "decoder": {
                    "family": family,
                    **({} if anchors is None else {"anchors": "anchors.npy"}),
                    **decoder,
                },
                "artifact": [{"file": "m.tflite", "format": "tflite", "precision": "int8"}],
            },
            Manifest,
        )
        return Bundle(Path(), manifest, tuple(f"class {i}" for i in range(labels)), anchors)

    return make


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
