"""What is told of a network that the runtime refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.backends.tflite import TFLiteEngine, _reason
from agent.errors import BadData


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: no room\nmore", "ERROR: no room"),
        ("quantized_dimension is bad", "quantized_dimension is bad"),
        ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", "not enough memory?"),
    ],
)
def test_news_of_the_runtime_is_no_reason(said: str, told: str) -> None:
    """The first line that is more than that; a runtime that says nothing has no memory left."""
    assert _reason(said) == told


def test_what_is_no_network_is_refused_in_one_line(tmp_path: Path) -> None:
    """With the runtime's own reason."""
    file = tmp_path / "no.tflite"
    file.write_bytes(b"no network at all" * 10)
    with pytest.raises(BadData, match=r"no\.tflite can't be loaded by the runtime: [^\n]+; convert it again"):
        TFLiteEngine(file, precision="int8", threads=1)
