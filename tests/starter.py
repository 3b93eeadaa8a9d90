"""A shipped model, from the bundle that `edge-calibrate build` makes of its float network.

    python -m tests.starter BUNDLE LICENCE OUT

The FP32 files stay out, they are large: FP16 is what INT8 is compared with. So does an INT8 for TensorRT that
agrees little with float: TensorRT then runs FP16. The golden inputs, pictures of those that were calibrated on,
make way for a frame of the sample clip, which may be given away.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from agent.backends import open_engine
from agent.bundle import Artifact, Bundle, load_bundle
from agent.bundle.golden import Golden, dump_golden
from agent.bundle.writing import write_bundle
from agent.starter import sample_clip
from calibration.building.golden import make_golden
from calibration.clips.keeping import keep
from calibration.clips.pictureset import Picture
from calibration.clips.sources import find
from calibration.record import REPORT

FRAME = 40
"""Of the sample clip: the street with several people."""
AGREES = 0.95
"""Measured agreement with float from which a file of less precision is shipped."""


def sample_golden(built: Bundle) -> Golden:
    """Return what the float network of `built` makes of a frame of the sample clip.

    Outputs are rounded to FP16, by a twentieth of what FP32 may be off at start: the file is a third smaller.
    """
    (clip,), _ = find([sample_clip()])
    float_network = built.path / "fp32.tflite"
    with tempfile.TemporaryDirectory() as scratch:
        files = keep(clip, {FRAME: Path(scratch) / f"{FRAME}.mkv"})
        pictures = [Picture(file, clip.name, 0, 0.0, "", "calibrate") for file in files]
        with closing(open_engine(float_network, precision="fp32", threads=1)) as engine:
            golden = make_golden(built.manifest, engine, pictures)
    rounded = (output.astype(np.float16).astype(np.float32) for output in golden.outputs)
    return Golden(golden.pixels, tuple(rounded))


def ship(built: Bundle, licence: Path, out: Path) -> Bundle:
    """Write the model `out`, a directory that is not there yet or empty."""
    golden = dump_golden(sample_golden(built))
    artifacts = tuple(filter(is_shipped, built.manifest.artifact))
    manifest = msgspec.structs.replace(
        built.manifest, artifact=artifacts, golden_sha256=hashlib.sha256(golden).hexdigest()
    )
    names = (*(each.file for each in artifacts), manifest.labels, manifest.decoder.anchors or "", REPORT)
    files: dict[str, Path | bytes] = {name: built.path / name for name in names if name}
    return write_bundle(out, manifest, {**files, "LICENSE": licence, "golden.npz": golden})


def is_shipped(artifact: Artifact) -> bool:
    """Tell whether the file belongs into a bundle that is given away."""
    return artifact.precision != "fp32" and (artifact.value or 0.0) >= AGREES


if __name__ == "__main__":
    made = ship(load_bundle(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
    print(
        f"{made.path}: sha256 of model.toml {hashlib.sha256((made.path / 'model.toml').read_bytes()).hexdigest()}"
    )
