"""Files that are no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import BadData
from calibration.quantize.network import read_network

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rest", [b"", b"\x00" * 40, b"\xff" * 40, b"\x08\x00\x00\x00" * 10])
def test_damaged_files_are_one_line(tmp_path: Path, rest: bytes) -> None:
    """What begins like a .tflite and goes on as something else is refused in one line that names it."""
    file = tmp_path / "model.tflite"
    file.write_bytes(b"\x1c\x00\x00\x00TFL3" + rest)
    with pytest.raises(BadData, match=r"model\.tflite") as caught:
        read_network(file)
    assert "\n" not in str(caught.value)
