"""The starter as it is shipped, from the bundle that `edge-calibrate build` makes of its float network.

    python -m tests.starter BUNDLE OUT

The FP32 files stay out, they are large: FP16 is what INT8 is compared with. The golden inputs, pictures of those
that were calibrated on, make way for two frames of the sample clip, which may be given away.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec

from agent.backends import open_engine
from agent.bundle import Bundle, load_bundle
from agent.bundle.golden import Golden, dump_golden
from agent.bundle.writing import write_bundle
from agent.starter import sample_clip
from calibration.building.golden import make_golden
from calibration.clips.keeping import keep
from calibration.clips.pictureset import Picture
from calibration.clips.sources import find
from calibration.record import REPORT

SHIPPED = ("int8.tflite", "fp16.onnx", "int8-qdq.onnx")
FRAMES = (40, 120)
"""Of the sample clip: the street with several people."""


def sample_golden(built: Bundle) -> Golden:
    """Return what the float network of `built` makes of frames of the sample clip."""
    (clip,), _ = find([sample_clip()])
    float_network = built.path / "fp32.tflite"
    with tempfile.TemporaryDirectory() as scratch:
        files = keep(clip, {seq: Path(scratch) / f"{seq}.mkv" for seq in FRAMES})
        pictures = [Picture(file, clip.name, 0, 0.0, "", "calibrate") for file in files]
        with closing(open_engine(float_network, precision="fp32", threads=1)) as engine:
            return make_golden(built.manifest, engine, pictures)


def ship(built: Bundle, out: Path) -> Bundle:
    """Write the starter `out`, a directory that is not there yet or empty."""
    golden = dump_golden(sample_golden(built))
    manifest = msgspec.structs.replace(
        built.manifest,
        artifact=tuple(each for each in built.manifest.artifact if each.file in SHIPPED),
        golden_sha256=hashlib.sha256(golden).hexdigest(),
    )
    names = (*SHIPPED, manifest.labels, manifest.decoder.anchors or "", "LICENSE", REPORT)
    return write_bundle(out, manifest, {**{name: built.path / name for name in names}, "golden.npz": golden})


if __name__ == "__main__":
    made = ship(load_bundle(Path(sys.argv[1])), Path(sys.argv[2]))
    print(
        f"{made.path}: sha256 of model.toml {hashlib.sha256((made.path / 'model.toml').read_bytes()).hexdigest()}"
    )
