"""What every Engine promises: over TFLite, and over TensorRT's calls, behind which a double runs ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.backends import BatchEngine, Engine, open_engine
from agent.bundle import load_bundle
from agent.starter import starter_bundle
from tests import doubles
from tests.doubles.networks import two_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS = {
    "tensorrt-double-cuda-bindings": (doubles.CUDA_BINDINGS, {}),
    "tensorrt-double-pycuda": (doubles.PYCUDA, {}),
    "tensorrt-double-half": (doubles.CUDA_BINDINGS, {"half": True}),
    "tensorrt-double-batch": (doubles.CUDA_BINDINGS, {"batch": "n"}),
}


@pytest.fixture(params=["tflite", *WAYS])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Open each kind of engine in turn."""
    if request.param == "tflite":
        bundle = load_bundle(starter_bundle())
        artifact = next(each for each in bundle.manifest.artifact if each.format == "tflite")
        opened: Engine = open_engine(bundle.file(artifact), precision=artifact.precision, threads=1)
        yield opened
        opened.close()
        return
    cuda, network = WAYS[request.param]
    with doubles.present(cuda):
        from agent.backends.tensorrt import TensorRTEngine, build_engine, load_tensorrt

        built = build_engine(load_tensorrt(), two_outputs(**network), workspace_bytes=1 << 20, batch=4)
        opened = TensorRTEngine(built.plan, precision="fp16", outputs=built.outputs)
        yield opened
        opened.close()


def pictures(engine: Engine, count: int = 3) -> list[np.ndarray[Any, Any]]:
    numbers = np.random.default_rng(0)
    spec = engine.input
    return [numbers.integers(0, 100, spec.shape).astype(spec.dtype) for _ in range(count)]


def test_outputs_are_as_announced(engine: Engine) -> None:
    """As many outputs as announced come, in that order, each with its announced shape and type."""
    outputs = engine.infer(pictures(engine)[0])
    assert [(out.shape, out.dtype) for out in outputs] == [(s.shape, s.dtype) for s in engine.outputs]
    assert engine.input.shape[0] == 1
    assert engine.input.dtype != np.float16, "half precision is the engine's own affair"
    assert all(spec.dtype != np.float16 for spec in engine.outputs)


def test_the_outputs_are_the_callers_own(engine: Engine) -> None:
    """Neither the next run nor the end of the engine changes what was returned, and it can be written to."""
    first, second, _ = pictures(engine)
    kept = engine.infer(first)
    copies = [out.copy() for out in kept]
    engine.infer(second)
    engine.close()
    for out, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(out, copy)
        out[...] = 0


def test_the_same_picture_gives_the_same_outputs(engine: Engine) -> None:
    """However often it runs: first queued, then recorded, then from the recording."""
    picture, other, _ = pictures(engine)
    first = engine.infer(picture)
    for _ in range(3):
        engine.infer(other)
        for out, again in zip(first, engine.infer(picture), strict=True):
            np.testing.assert_array_equal(out, again)


def test_the_input_stays_the_callers(engine: Engine) -> None:
    """It is not written to, and changing it later does not matter."""
    picture = pictures(engine)[0]
    before = picture.copy()
    first = engine.infer(picture)
    np.testing.assert_array_equal(picture, before)
    picture[...] = 0
    for out, again in zip(first, engine.infer(before), strict=True):
        np.testing.assert_array_equal(out, again)


def test_it_says_what_runs(engine: Engine) -> None:
    """Backend and precision are those of events and complaints."""
    assert engine.info.backend
    assert engine.info.precision in {"int8", "fp16", "fp32"}
    assert engine.info.nodes >= engine.info.delegated_nodes >= 0


def test_it_can_be_closed_twice(engine: Engine) -> None:
    """Closing is final, and harmless the second time."""
    engine.infer(pictures(engine)[0])
    engine.close()
    engine.close()


def test_a_batch_is_the_pictures_one_by_one(engine: Engine) -> None:
    """Every batch up to the largest gives each picture what it gets alone, also from lent memory."""
    if not isinstance(engine, BatchEngine):
        pytest.skip("this engine takes one picture at a time")
    given = pictures(engine, engine.batch)
    alone = [engine.infer(picture) for picture in given]
    for count in range(1, engine.batch + 1):
        lent = [engine.lend() for _ in range(count)]
        for array, picture in zip(lent, given, strict=False):
            assert (array.shape, array.dtype) == (engine.input.shape, engine.input.dtype)
            array[...] = picture
        for tensors in (given[:count], lent, lent):
            for outputs, wanted in zip(engine.infer_batch(tensors), alone, strict=False):
                for out, want in zip(outputs, wanted, strict=True):
                    np.testing.assert_array_equal(out, want)
