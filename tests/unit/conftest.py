"""Bundles for tests of the parts around a model, made in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.bundle import Bundle, Manifest


@pytest.fixture
def bundle():
    """Return a function that makes a bundle of a family without files."""

    def make(
        family: str,
        labels: int = 3,
        size: tuple[int, int] = (64, 32),
        anchors: Any = None,
        input_: Any = None,
        **decoder: Any,
    ) -> Bundle:
        manifest = msgspec.convert(
            {
                "name": "test",
                "version": 1,
                "task": "classify" if family == "classification" else "detect",
                "licence": "none",
                "labels": "labels.txt",
                "input": {"width": size[0], "height": size[1], **(input_ or {})},
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
