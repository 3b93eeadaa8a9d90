"""Building engines: what is asked of TensorRT's builder, and what becomes of its refusals. Over the double."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.backends.tensorrt import Built, build_engine, load_tensorrt
from agent.backends.tensorrt.module import flag_bit, make_log
from agent.errors import BadData, InputMissing, ServiceAway
from tests import doubles
from tests.doubles.networks import two_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@pytest.fixture
def gpu() -> Iterator[ModuleType]:
    """Put the doubles in place."""
    with doubles.present() as module:
        yield module


def build(onnx: bytes | Path, **more: Any) -> Built:
    return build_engine(load_tensorrt(), onnx, workspace_bytes=1 << 20, **more)


def test_outputs_are_in_the_order_of_the_file(gpu: ModuleType, tmp_path: Path) -> None:
    """From bytes and from a file alike."""
    (tmp_path / "a.onnx").write_bytes(two_outputs())
    assert build(two_outputs()).outputs == ("zwei", "eins")
    assert build(tmp_path / "a.onnx") == build(two_outputs())


@pytest.mark.parametrize(("first", "asked", "got"), [(1, 4, 1), ("n", 4, 4), ("n", 1, 1)])
def test_a_batch_is_built_where_the_file_leaves_it_open(
    gpu: ModuleType, first: int | str, asked: int, got: int
) -> None:
    """A file for one picture stays one for one picture."""
    assert build(two_outputs(batch=first), batch=asked).batch == got


def test_a_fixed_batch_is_refused(gpu: ModuleType) -> None:
    """The agent would have to wait for as many pictures."""
    with pytest.raises(BadData, match=r"tensor x: shape: \(2, 3, 4, 5\); .*a batch of 1 or an open one"):
        build(two_outputs(batch=2))


def test_refused_nodes_are_named_with_their_reason(gpu: ModuleType) -> None:
    """Node, operator and reason, whether TensorRT says something of use or just `false`."""
    with pytest.raises(
        BadData, match=r"refuses this ONNX file: node twice \(Hum\): Plugin not found, are the"
    ):
        build(two_outputs(operator="Hum"))
    with (
        doubles.present(settings="refuse=ReduceMean"),
        pytest.raises(BadData, match=r"node mean \(ReduceMean\): not supported; convert"),
    ):
        build(two_outputs())


@pytest.mark.parametrize("damaged", [b"no ONNX at all", two_outputs()[:100]])
def test_what_is_no_onnx_is_told(gpu: ModuleType, damaged: bytes) -> None:
    """Text and a file that is cut off."""
    with pytest.raises(BadData, match="refuses this ONNX file: Failed to parse the ONNX model"):
        build(damaged)


def test_a_missing_file_is_told(gpu: ModuleType, tmp_path: Path) -> None:
    """As for every model file."""
    with pytest.raises(InputMissing, match=r"a\.onnx"):
        build(tmp_path / "a.onnx")


def test_progress_only_goes_up_and_ends_at_one(gpu: ModuleType) -> None:
    """TensorRT's nested phases become one share."""
    told: list[tuple[float, str]] = []
    build(two_outputs(), progress=lambda share, phase: told.append((share, phase)))
    shares = [share for share, _ in told]
    assert all(before <= after for before, after in pairwise(shares))
    assert (shares[0], shares[-1]) == (0, 1)
    assert {phase for _, phase in told} == {"Building Engine 0", "Tactic Selection"}


def test_timings_are_handed_on(gpu: ModuleType) -> None:
    """The next build gets those of the last; those of another version or damaged ones are dropped, not fatal."""
    first = build(two_outputs()).timing_cache
    second = build(two_outputs(), timing_cache=first).timing_cache
    assert first is not None
    assert second is not None
    assert (b'"builds": 1' in first, b'"builds": 2' in second) == (True, True)
    assert build(two_outputs(), timing_cache=b"damaged").timing_cache == first
    with doubles.present(settings="version=10.13.0"):
        other = build(two_outputs(), timing_cache=second).timing_cache
        assert other is not None
        assert b'"builds": 1' in other


def test_a_build_that_fails_says_why(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last complaint in TensorRT's log is the reason; of a builder that does not start too."""
    trt: Any = load_tensorrt()

    class Failing(trt.Builder):  # type: ignore[misc]
        def build_serialized_network(self, network: Any, config: Any) -> None:
            self._logger.log(trt.ILogger.ERROR, "Could not find any implementation for node twice")

    monkeypatch.setattr(trt, "Builder", Failing)
    with pytest.raises(
        BadData, match="can't build this model: Could not find any implementation for node twice"
    ):
        build(two_outputs())

    def starts_not(logger: Any) -> None:
        logger.log(trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", starts_not)
    with pytest.raises(ServiceAway, match="Builder does not start: CUDA initialization failure"):
        build(two_outputs())


def test_tensorrt_is_missing_or_too_old() -> None:
    """Both are one line with what to install."""
    with (
        doubles.present(settings="version=8.6.2"),
        pytest.raises(ServiceAway, match=r"too old: 8\.6\.2; 10\.3"),
    ):
        load_tensorrt()


def test_flags_go_by_name(gpu: ModuleType) -> None:
    """In TensorRT 10 STRONGLY_TYPED is 1, in 11 it is 0: a number would mean something else."""
    flags = load_tensorrt().NetworkDefinitionCreationFlag
    assert flag_bit(flags, "STRONGLY_TYPED") == 2
    assert flag_bit(flags, "NO_SUCH_FLAG") == 0


def test_only_complaints_are_kept(gpu: ModuleType) -> None:
    """Warnings and what is more talkative are no reason for a failure."""
    trt = load_tensorrt()
    logger = make_log(trt)
    for severity in (trt.ILogger.VERBOSE, trt.ILogger.INFO, trt.ILogger.WARNING):
        logger.log(severity, "talk")
    assert logger.last() == "it gives no reason"
    logger.log(trt.ILogger.INTERNAL_ERROR, "broken")
    assert logger.last() == "broken"
