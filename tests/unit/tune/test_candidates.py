"""What is measured, what only for comparison, and what can't be."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backends.choice import BATCH
from agent.backends.usable import Backend
from agent.bundle.manifest import Artifact
from agent.hardware import Board, default_threads
from agent.tune.candidates import NO_CORE, absent, candidates, objection_to, thread_counts

INT8 = Artifact(file="int8.tflite", format="tflite", precision="int8")
FP32 = Artifact(file="fp32.tflite", format="tflite", precision="fp32")
HALF = Artifact(file="fp16.onnx", format="onnx", precision="fp16")
WIDE = Artifact(file="fp32.onnx", format="onnx", precision="fp32")
LITERT = Backend("litert", usable=True)
OLD = Backend("tflite-runtime", usable=True)
NO_OLD = Backend("tflite-runtime", usable=False, reason="not installed")
TENSORRT = Backend("tensorrt", usable=True)
NO_TENSORRT = Backend("tensorrt", usable=False, reason="no Jetson")


def board(cpus: int) -> Board:
    return Board(kind="raspberry-pi", name="Pi", tier="supported", tier_reason="", usable_cpus=cpus)


@pytest.mark.parametrize(
    ("cpus", "counts"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (4, [1, 2, 3, 4]),
        (6, [1, 2, 3, 4, 5, 6]),
        (12, [1, 2, 3, 4, 8, 11, 12]),
    ],
)
def test_every_number_of_threads_that_a_board_has(cpus: int, counts: list[int]) -> None:
    """Up to four each; beyond, doubled, and all, and all but one."""
    assert thread_counts(cpus) == counts


@given(st.integers(1, 512))
def test_the_default_and_all_cpus_are_always_tried(cpus: int) -> None:
    """A few numbers, each of them possible."""
    counts = thread_counts(cpus)
    assert {1, cpus, default_threads(cpus)} <= set(counts)
    assert counts == sorted(set(counts))
    assert max(counts) <= cpus
    assert len(counts) <= 14


def test_every_artifact_is_tried_with_and_without_delegate() -> None:
    """On every runtime that runs; no artifact on a backend that can't take it."""
    found = candidates(board(2), (INT8, FP32, HALF, WIDE), (LITERT, OLD, NO_TENSORRT))
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 2
    assert {each.artifact for each in found} == {"int8.tflite", "fp32.tflite"}
    assert {(each.backend, each.delegate, each.threads) for each in found} == {
        (backend, delegate, threads)
        for backend in ("litert", "tflite-runtime")
        for delegate in (True, False)
        for threads in (1, 2)
    }


def test_tensorrt_has_one_candidate_for_each_engine() -> None:
    """Neither threads nor delegate; FP32 is not built."""
    found = candidates(board(4), (HALF, WIDE), (TENSORRT,))
    assert [(each.artifact, each.threads, each.delegate) for each in found] == [("fp16.onnx", 1, True)]


def test_an_engine_for_several_pictures_is_a_candidate_of_its_own() -> None:
    """Where the ONNX leaves their number open."""
    wide = msgspec.structs.replace(HALF, open_batch=True)
    found = candidates(board(4), (wide,), (TENSORRT,))
    assert [each.batch for each in found] == [1, BATCH]
    assert str(found[1]) == f"tensorrt fp16, {BATCH} at once"


def test_what_takes_every_core_is_measured_for_comparison_alone() -> None:
    """One is left to decode; TensorRT takes none, and where there is one core alone it is shared."""
    found = candidates(board(4), (INT8, HALF), (LITERT, TENSORRT))
    crowded = {each.threads for each in found if objection_to(each, board(4)) == NO_CORE}
    assert crowded == {4}
    assert not any(
        objection_to(each, board(1)) for each in candidates(board(1), (INT8, HALF), (LITERT, TENSORRT))
    )


def test_what_can_not_be_measured_is_told() -> None:
    """Backends that don't run, and the other precision that the bundle lacks."""
    assert absent((INT8, WIDE), (LITERT, NO_OLD, NO_TENSORRT)) == (
        "tensorrt: no Jetson",
        "litert float: the bundle has no float tflite",
        "tflite-runtime: not installed",
    )
    assert absent((INT8, FP32), (LITERT, OLD, NO_TENSORRT)) == ("tensorrt: no Jetson",)
    assert absent((FP32, HALF), (LITERT, TENSORRT)) == (
        "tensorrt int8: the bundle has no int8 onnx",
        "litert int8: the bundle has no int8 tflite",
        "tflite-runtime: not looked for",
    )
