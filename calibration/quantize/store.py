"""What the search keeps between runs: files that appear whole or not at all."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from agent.wholefile import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def write_arrays(file: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write `arrays` as .npz. Raises CannotCreate."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    write_whole(file, buffer.getvalue())


def read_arrays(file: Path) -> dict[str, NDArray[np.generic]] | None:
    """Return what `write_arrays` wrote; None if it is not there or not whole."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception:  # noqa: BLE001 - of damaged bytes NumPy and zipfile raise a dozen kinds
        return None
