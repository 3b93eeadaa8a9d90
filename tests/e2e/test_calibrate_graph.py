"""The rewrites on real networks: fewer operators, the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from calibration.graph import equalize, prepare

MODELS = Path(__file__).parents[2] / "../shared/data/models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="no ../shared/data")


def outputs(model: onnx.ModelProto, picture: np.ndarray) -> list[np.ndarray]:
    """Return what `model` makes of `picture` (1, H, W, 3), in its own layout."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    fed = picture if entry.shape[-1] == 3 else picture.transpose(0, 3, 1, 2)
    return list(session.run(None, {entry.name: fed}))


def picture(size: int) -> np.ndarray:
    """Return smooth patches of colour with some noise, 0..255."""
    random = np.random.default_rng(2)
    patches = random.uniform(0, 235, (1, size // 32, size // 32, 3)).repeat(32, axis=1).repeat(32, axis=2)
    return (patches + random.uniform(0, 20, patches.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "size", "operators"),
    [
        ("centernet_mbv3_512_fp32.onnx", 512, 227),
        ("yolox_nano_416_fp32.onnx", 416, 362),
        ("ped_ssdlite_300_fp32.onnx", 300, None),
    ],
)
def test_a_real_network_computes_the_same(name: str, size: int, operators: int | None) -> None:
    """CenterNet loses a fifth of its operators, YOLOX its slices; nobody's outputs move."""
    before = onnx.load(MODELS / name)
    after = prepare(before).model
    if operators is not None:
        assert len(after.graph.node) == operators < len(before.graph.node)
    shown = picture(-(-size // 32) * 32)[:, :size, :size]
    even = equalize(after, [np.ascontiguousarray(shown.transpose(0, 3, 1, 2))])
    for want, prepared, evened in zip(
        outputs(before, shown), outputs(after, shown), outputs(even, shown), strict=True
    ):
        limit = 1e-4 * float(np.abs(want).max())
        assert np.abs(prepared - want).max() < limit
        assert np.abs(evened - want).max() < limit


def test_centernet_at_another_size() -> None:
    """It is fully convolutional: at 320 the heat map has 80 x 80 places."""
    prepared = prepare(onnx.load(MODELS / "centernet_mbv3_512_fp32.onnx"), width=320, height=320)
    assert [out.shape for out in outputs(prepared.model, picture(320))] == [(1, 80, 80, 80), (1, 80, 80, 4)]
    assert prepared.notes[0] == "input size fixed"
