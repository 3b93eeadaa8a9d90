"""`golden.npz` of a bundle: a few inputs, and what the float network made of them where the bundle was built."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.bundle.files import read_file
from agent.errors import BadData

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.bundle.manifest import Manifest

PIXELS, OUTPUT = "pixels", "output{}"
"""Names in the .npz: the inputs, and the outputs by number from 0."""
_MOST_BYTES = 256 << 20
"""Unpacked size of the largest golden file that is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Inputs and outputs of the float network.

    `pixels` is uint8 (n, height, width, 3): what the preprocessor made of frames, in the manifest's colour
    order, before mean and std. Each of `outputs` is float32 (n, ...), laid out as the tflite artifacts' are.
    """

    pixels: NDArray[np.uint8]
    outputs: tuple[NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        """Raise ValueError for arrays of the wrong kind, or of different lengths."""
        seen = f"{self.pixels.dtype} {self.pixels.shape}"
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"pixels are {seen}, not uint8 (n, height, width, 3)")
        if not len(self.pixels) or not self.outputs:
            raise ValueError(f"{len(self.pixels)} inputs and {len(self.outputs)} outputs")
        for number, output in enumerate(self.outputs):
            if output.dtype != np.float32 or output.shape[:1] != self.pixels.shape[:1]:
                raise ValueError(f"output {number} is {output.dtype} {output.shape}, of {seen} pixels")
            if not np.isfinite(output).all():
                raise ValueError(f"output {number} is not finite")


def dump_golden(golden: Golden) -> bytes:
    """Return the .npz of `golden`; the same arrays give the same bytes."""
    stream = io.BytesIO()
    arrays: dict[str, Any] = {PIXELS: golden.pixels}
    arrays |= {OUTPUT.format(number): output for number, output in enumerate(golden.outputs)}
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def read_golden(path: Path, manifest: Manifest) -> Golden | None:
    """Return what the bundle `path` has, its sha256 checked; None if it has none. Raises InputMissing, BadData."""
    if manifest.golden is None or manifest.golden_sha256 is None:
        return None
    file = path / manifest.golden
    raw = read_file(path, manifest.golden, sha256=manifest.golden_sha256)
    try:
        _check_size(raw)
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            names = [name for name in (OUTPUT.format(n) for n in range(len(arrays))) if name in arrays]
            golden = Golden(arrays[PIXELS], tuple(arrays[name] for name in names))
    except Exception as error:  # noqa: BLE001 - of damaged bytes NumPy and zipfile raise a dozen kinds
        raise BadData(f"{file} is no golden file", seen=error, fix="build the bundle again") from None
    size = manifest.input.height, manifest.input.width
    if golden.pixels.shape[1:3] != size:
        fix = f"the manifest's input is {size}: build the bundle again"
        raise BadData(f"{file}: size of its inputs", seen=golden.pixels.shape[1:3], fix=fix)
    return golden


def _check_size(raw: bytes) -> None:
    """Raise ValueError for an archive that would unpack to more than any golden file has."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
    if size_bytes > _MOST_BYTES:
        raise ValueError(f"{size_bytes} bytes unpacked, above {_MOST_BYTES}")
