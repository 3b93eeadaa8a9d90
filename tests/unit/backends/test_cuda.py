"""One way to CUDA out of two: which is taken, and what its faults become. Over the doubles."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.backends.cuda import Cuda, cuda_fault, open_cuda
from agent.errors import ServiceAway
from tests import doubles

if TYPE_CHECKING:
    from pathlib import Path

WAYS = [pytest.param(doubles.CUDA_BINDINGS, id="cuda-bindings"), pytest.param(doubles.PYCUDA, id="pycuda")]


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_shared_and_work_is_waited_for(way: Path) -> None:
    """What the host writes the GPU sees at the device's address, and the other way round, in any thread."""
    with doubles.present(way) as gpu:
        cuda: Cuda = open_cuda()
        mapped = cuda.allocate(8)
        mapped.host[...] = 7
        seen = gpu.on_device(mapped.device, 8)
        gpu.queue(cuda.stream, partial(np.multiply, seen, 2, out=seen))
        assert mapped.host.tolist() == [7] * 8
        thread = threading.Thread(target=cuda.wait)
        thread.start()
        thread.join(10)
        assert mapped.host.tolist() == [14] * 8
        assert cuda.sm == "8.7"
        del mapped, seen
        cuda.close()
        del cuda
        assert (gpu.memory, gpu.streams) == ({}, {})


@pytest.mark.parametrize("way", WAYS)
def test_no_memory_is_one_clear_line(way: Path) -> None:
    """Both libraries have their own words for it."""
    with doubles.present(way) as gpu:
        cuda = open_cuda()
        gpu.broken["memory"] = True
        with pytest.raises(ServiceAway, match=r"no memory left for the GPU: .*; use a smaller model"):
            cuda.allocate(8)
        cuda.close()


def test_cuda_bindings_come_first() -> None:
    """Where both are installed."""
    with doubles.present(doubles.CUDA_BINDINGS) as _, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(doubles.PYCUDA)
        cuda = open_cuda()
        assert type(cuda).__name__ == "BindingsCuda"
        cuda.close()


def test_without_either_the_line_says_what_to_install() -> None:
    """cuda-bindings is what is asked for."""
    with (
        doubles.present(None),
        pytest.raises(ServiceAway, match=r"no way to reach the GPU: No module named 'cuda"),
    ):
        open_cuda()


def test_a_pycuda_without_its_driver_says_that(tmp_path: Path) -> None:
    """It is installed: what it misses is told, not that cuda-bindings are missing."""
    (tmp_path / "pycuda").mkdir()
    said = "libcuda.so.1: cannot open shared object file"
    (tmp_path / "pycuda" / "driver.py").write_text(f"raise ImportError({said!r})")
    with doubles.present(tmp_path), pytest.raises(ServiceAway, match=said):
        open_cuda()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("cudaErrorInsufficientDriver", "driver is missing or too old for this CUDA: .*nvidia-jetpack"),
        ("cuInit failed: no CUDA-capable device is detected", "no GPU that this user may use"),
        ("cudaErrorNoDevice", "no GPU that this user may use"),
        ("cudaErrorMemoryAllocation", "no memory left for the GPU"),
        ("cudaErrorIllegalAddress", "CUDA failed: run: cudaErrorIllegalAddress; restart the agent"),
    ],
)
def test_what_cuda_says_becomes_what_to_do(said: Any, line: str) -> None:
    """One line each: what, value seen, fix."""
    with pytest.raises(ServiceAway, match=line):
        raise cuda_fault("run", said)
