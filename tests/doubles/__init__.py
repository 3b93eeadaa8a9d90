"""Doubles of TensorRT and CUDA, for machines without a GPU: what they stand in for is told by their names.

Each folder here is one to put on PYTHONPATH: `gpu` (always) has `tensorrt` and the double of the GPU itself,
`cuda_bindings` and `pycuda` the two ways to reach it. What the doubles compute, ONNX Runtime computes: numbers are
right, times and memory say nothing about a GPU. What they are strict about: addresses must lie in memory that is
allocated, work is done no sooner than somebody waits for it, outputs come in another order than the ONNX file's,
and nothing may be used after it was freed.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_HERE = Path(__file__).parent
GPU = _HERE / "gpu"
CUDA_BINDINGS = _HERE / "cuda_bindings"
PYCUDA = _HERE / "pycuda"


def paths(cuda: Path | None = CUDA_BINDINGS) -> list[str]:
    """Return what to put on sys.path for a machine with TensorRT and one way to reach CUDA, or none."""
    return [str(GPU), *([str(cuda)] if cuda else [])]


_STANDS_IN = ("tensorrt", "cuda", "pycuda", "gpu_double")
_BOUND = ("agent.backends.cuda.bindings", "agent.backends.cuda.pycuda")


@contextmanager
def present(cuda: Path | None = CUDA_BINDINGS, settings: str = "") -> Iterator[ModuleType]:
    """Have the doubles imported in this process meanwhile, with TENSORRT_DOUBLE `settings`; yields the GPU's."""

    def forget() -> None:
        for name in [*sys.modules]:
            if name in _BOUND or name.partition(".")[0] in _STANDS_IN:
                del sys.modules[name]

    forget()
    path = [*paths(cuda), *sys.path]
    with patch.object(sys, "path", path), patch.dict(os.environ, TENSORRT_DOUBLE=settings):
        importlib.invalidate_caches()
        try:
            yield importlib.import_module("gpu_double")
        finally:
            forget()


def environment(cuda: Path | None = CUDA_BINDINGS, settings: str = "") -> dict[str, str]:
    """Return the variables for a child program that is to find the doubles, with TENSORRT_DOUBLE `settings`."""
    path = [*paths(cuda), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "TENSORRT_DOUBLE": settings}
