"""A TensorRT engine at work: order, memory, recordings, lifetime and faults. Over the double of TensorRT and CUDA."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.backends.tensorrt import TensorRTEngine, build_engine, load_tensorrt
from agent.errors import BadData, ServiceAway
from tests import doubles
from tests.doubles.networks import SHAPE, two_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@pytest.fixture
def gpu() -> Iterator[ModuleType]:
    """Put the doubles in place; at the end nothing may be left of memory, streams, events and graphs."""
    with doubles.present() as module:
        yield module
        gc.collect()
        assert (module.memory, module.streams) == ({}, {})
        if runtime := sys.modules.get("cuda.bindings.runtime"):
            assert (runtime._events, runtime._graphs) == ({}, {})


def plan(**network: Any) -> bytes:
    return build_engine(load_tensorrt(), two_outputs(**network), workspace_bytes=1 << 20, batch=4).plan


def opened(*outputs: str, **network: Any) -> TensorRTEngine:
    return TensorRTEngine(plan(**network), precision="fp16", outputs=outputs or ("zwei", "eins"))


def picture(value: float = 1.0) -> np.ndarray[Any, Any]:
    return np.full(SHAPE, value, np.float32)


def test_outputs_come_in_the_order_of_the_file(gpu: ModuleType) -> None:
    """The engine lists them the other way round, and before its input."""
    engine = opened()
    assert engine._engine.get_tensor_name(0) == "eins"
    twice, mean = engine.infer(picture(3))
    assert (twice.shape, mean.shape) == (SHAPE, (1, 3))
    np.testing.assert_array_equal(twice, picture(6))
    np.testing.assert_array_equal(mean, np.full((1, 3), 3, np.float32))
    engine.close()


def test_an_engine_of_another_model_is_refused(gpu: ModuleType) -> None:
    """One whose outputs are not those of the file."""
    with pytest.raises(BadData, match="another model: inputs x; outputs eins, zwei; build it again"):
        opened("zwei", "drei")


def test_half_precision_stays_inside(gpu: ModuleType) -> None:
    """Callers give and get float32."""
    engine = opened(half=True)
    assert {spec.dtype for spec in (engine.input, *engine.outputs)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(engine.infer(picture(0.1))[0], picture(np.float16(0.1) * np.float16(2)))
    np.testing.assert_array_equal(engine.infer(engine.lend() * 0 + picture(2))[0], picture(4))
    engine.close()


def test_lent_memory_is_read_where_it_lies_and_comes_back(gpu: ModuleType) -> None:
    """What is written to it needs no copy; it is lent again when nobody holds it; the fifth is ordinary memory."""
    engine = opened()
    before = len(gpu.memory)
    lent = [engine.lend() for _ in range(6)]
    inside = [array.ctypes.data in gpu.memory for array in lent]
    assert inside == [True] * 4 + [False] * 2
    for number, array in enumerate(lent):
        array[...] = number
    for number, array in enumerate(lent):
        np.testing.assert_array_equal(engine.infer(array)[0], picture(2.0 * number))
    address = lent[0].ctypes.data
    del lent[0], array
    again = engine.lend()
    assert again.ctypes.data == address
    assert len(gpu.memory) == before
    del lent, again
    engine.close()


def test_a_part_of_lent_memory_holds_all_of_it(gpu: ModuleType) -> None:
    """Who kept a channel of it must not see the next picture there."""
    engine = opened()
    part = engine.lend()[0, 0]
    part[...] = 7
    others = [engine.lend() for _ in range(4)]
    for each in others:
        each[...] = 1
    assert (part == 7).all()
    del part, others, each
    engine.close()


def test_an_output_that_is_one_number_is_one(gpu: ModuleType) -> None:
    """It has no dimension, and no batch."""
    engine = opened("zwei", "eins", scalar=True)
    assert (engine.batch, engine.outputs[1].shape) == (1, ())
    assert engine.infer(picture(3))[1] == 3
    engine.close()


def test_lent_memory_outlives_the_engine(gpu: ModuleType) -> None:
    """A frame may still be written while the engine is exchanged for another: its memory goes with the last array."""
    engine = opened()
    lent = engine.lend()
    engine.close()
    lent[...] = 1
    assert lent.ctypes.data in gpu.memory
    assert (engine.lend().shape, len(gpu.streams)) == (SHAPE, 1)
    del lent


def test_the_second_run_from_an_address_is_recorded(gpu: ModuleType) -> None:
    """From then on it is one launch, also for each lent array and each size of batch."""
    engine = opened(batch="n")
    gpu.counts.update(queued=0, launched=0)
    for _ in range(3):
        engine.infer(picture())
    assert (gpu.counts["queued"], gpu.counts["launched"]) == (1, 2)
    lent = engine.lend()
    lent[...] = 5
    for _ in range(3):
        np.testing.assert_array_equal(engine.infer(lent)[0], picture(10))
    assert (gpu.counts["queued"], gpu.counts["launched"]) == (2, 4)
    for _ in range(3):
        engine.infer_batch([picture(1), picture(2)])
    assert (gpu.counts["queued"], gpu.counts["launched"]) == (3, 6)
    del lent
    engine.close()


def test_without_recordings_it_goes_call_by_call(gpu: ModuleType) -> None:
    """Some networks can't be recorded, and pycuda has no graphs."""
    gpu.broken["capture"] = True
    engine = opened()
    for value in (1, 2, 3):
        np.testing.assert_array_equal(engine.infer(picture(value))[0], picture(2 * value))
    assert gpu.counts["launched"] == 0
    engine.close()


def test_a_recording_that_makes_no_graph_is_done_without(gpu: ModuleType) -> None:
    """It costs memory, which may be short: the network runs all the same, and nothing of it is left."""
    gpu.broken["graph"] = True
    engine = opened()
    for value in (1, 2, 3):
        np.testing.assert_array_equal(engine.infer(picture(value))[0], picture(2 * value))
    assert gpu.counts["launched"] == 0
    engine.close()


def test_a_gpu_that_has_failed_is_told_once(gpu: ModuleType) -> None:
    """Every call fails from then on: the end of the engine must go its way, for the agent has more to put away."""
    engine = opened()
    lent = engine.lend()
    gpu.broken["all"] = True
    with pytest.raises(ServiceAway, match=r"CUDA failed: .*cudaErrorIllegalAddress"):
        engine.infer(picture())
    engine.close()
    del lent


def test_many_runs_leave_nothing_behind(gpu: ModuleType) -> None:
    """Memory is allocated once for each size of batch."""
    engine = opened(batch="n")
    for count in (1, 2, 3, 4):
        engine.infer_batch([picture()] * count)
    allocated = len(gpu.memory)
    for number in range(200):
        engine.infer_batch([picture(number)] * (1 + number % 4))
    assert len(gpu.memory) == allocated
    engine.close()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 3, 5, 4), np.float32), np.zeros(SHAPE, np.float64), np.zeros(SHAPE[1:], np.float32)],
)
def test_a_wrong_input_is_told(gpu: ModuleType, wrong: np.ndarray[Any, Any]) -> None:
    """Shape and type, both what came and what it takes."""
    engine = opened()
    with pytest.raises(BadData, match=r"input of the engine: float.*; it takes float32 \(1, 3, 4, 5\)"):
        engine.infer(wrong)
    engine.close()


def test_after_the_end_it_says_so(gpu: ModuleType) -> None:
    """A use after `close` is a fault of the program, and no crash."""
    engine = opened()
    engine.close()
    with pytest.raises(RuntimeError, match="used after it was closed"):
        engine.infer(picture())


@pytest.mark.parametrize("kept", [slice(-10), slice(0), slice(1, None)])
def test_a_damaged_engine_is_refused(gpu: ModuleType, kept: slice) -> None:
    """Cut off, empty, or without its beginning; nothing of it stays."""
    whole = plan()
    with pytest.raises(BadData, match=r"can't load this engine: .*magic tag.*; build it again"):
        TensorRTEngine(whole[kept], precision="fp16", outputs=("zwei", "eins"))


def test_an_engine_of_another_version_is_refused(gpu: ModuleType) -> None:
    """TensorRT's own words are the reason."""
    with doubles.present(settings="version=10.13.0"):
        newer = plan()
    with doubles.present(), pytest.raises(BadData, match=r"expecting 10\.3\.0 got 10\.13\.0.*build it again"):
        TensorRTEngine(newer, precision="fp16", outputs=("zwei", "eins"))


def test_no_memory_is_told(gpu: ModuleType) -> None:
    """At the start, with nothing left allocated; and later, for a size of batch that is new."""
    whole = plan(batch="n")
    gpu.broken["memory"] = True
    with pytest.raises(ServiceAway, match="no memory left for the GPU"):
        TensorRTEngine(whole, precision="fp16", outputs=("zwei", "eins"))
    gpu.broken["memory"] = False
    engine = TensorRTEngine(whole, precision="fp16", outputs=("zwei", "eins"))
    gpu.broken["memory"] = True
    with pytest.raises(ServiceAway, match="no memory left for the GPU"):
        engine.infer_batch([picture(), picture()])
    np.testing.assert_array_equal(engine.infer(picture())[0], picture(2))
    engine.close()
