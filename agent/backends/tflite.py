"""TFLite on the CPU: LiteRT with XNNPACK, or tflite-runtime where that is all a device has."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from agent.bundle.files import read_weights
from agent.errors import BadData, ServiceAway, first_line
from agent.messages import EngineInfo, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Runtime = Literal["litert", "tflite-runtime"]
_MODULES: dict[Runtime, str] = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""Both have the same Interpreter; the better one comes first."""


class TFLiteEngine:
    """One .tflite network on `threads` CPU threads.

    The file is read once: the bytes that have `sha256`, if one is given, are those that run. `runtime` None:
    the best that is installed. Without `delegate` TFLite's own kernels run all of it: for comparison.
    Raises InputMissing without the file, BadData when the runtime refuses it or it has another hash,
    NotPermitted when it can't be read, ServiceAway without the runtime.
    """

    def __init__(
        self,
        artifact: Path,
        *,
        precision: str,
        threads: int,
        sha256: str | None = None,
        runtime: Runtime | None = None,
        delegate: bool = True,
    ) -> None:
        content = read_weights(artifact, sha256)
        module, name = _import(runtime)
        self._interpreter = _load(module, artifact.name, content, threads, delegate=delegate)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1:
            raise BadData("model inputs", seen=len(inputs), fix="one image input is what the agent feeds")
        self._input_index = inputs[0]["index"]
        self._output_indices = tuple(detail["index"] for detail in outputs)
        self._input = _spec(inputs[0])
        self._outputs = tuple(_spec(detail) for detail in outputs)
        delegated, nodes = _count_nodes(self._interpreter)
        backend = f"{name}-xnnpack" if delegated else name
        self._info = EngineInfo(backend, precision, threads, delegated, nodes, delegate)
        if delegate and not delegated:
            log.warning(
                "XNNPACK took none of the %d nodes of %s: inference runs many times slower; %s",
                nodes,
                artifact.name,
                _why_slow(name),
            )

    @property
    def input(self) -> TensorSpec:
        """The one input."""
        return self._input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the model's order."""
        return self._outputs

    @property
    def info(self) -> EngineInfo:
        """Which runtime took how much of the graph."""
        return self._info

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run once; the outputs are copies. The GIL is free while the network runs."""
        try:
            self._interpreter.set_tensor(self._input_index, tensor)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BadData(
                "inference failed", seen=first_line(error), fix="check the model with `model add`"
            ) from error
        return tuple(self._interpreter.get_tensor(index) for index in self._output_indices)

    def close(self) -> None:
        """Free the interpreter and its arena."""
        self._interpreter = None


def _import(runtime: Runtime | None) -> tuple[ModuleType, Runtime]:
    """Return the module of `runtime`, or of the first that there is. Raises ServiceAway."""
    first, *others = (runtime,) if runtime else _MODULES
    try:
        return importlib.import_module(_MODULES[first]), first
    except ImportError as error:
        for other in others:
            with contextlib.suppress(ImportError):
                return importlib.import_module(_MODULES[other]), other
        what = f"{runtime} can't be loaded" if runtime else "no TFLite runtime"
        fix = "pip install ai-edge-litert (needs a 64-bit userland)"
        raise ServiceAway(what, seen=error, fix=fix) from error


def _load(module: ModuleType, name: str, content: bytes, threads: int, *, delegate: bool) -> Any:
    """Build the interpreter; the runtime's own chatter on stderr becomes part of the error, or is dropped."""
    resolver = module.OpResolverType
    kind = resolver.AUTO if delegate else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with _native_stderr() as chatter:
        try:
            interpreter = module.Interpreter(
                model_content=content, num_threads=threads, experimental_op_resolver_type=kind
            )
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BadData(
                f"{name} can't be loaded by the runtime",
                seen=_reason(f"{error}\n{chatter()}"),
                fix="convert it again, or use another model",
            ) from error
    return interpreter


def _reason(said: str) -> str:
    """Return the first line of what the runtime `said` that is more than news."""
    lines = (line.strip() for line in said.splitlines())
    telling = (line for line in lines if line and not line.startswith("INFO:"))
    return first_line(next(telling, "not enough memory?"))


@contextlib.contextmanager
def _native_stderr() -> Iterator[Any]:
    """Catch what native code writes to stderr, past Python. For start-up, before there are threads."""
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)

        def text() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace")

        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _spec(detail: dict[str, Any]) -> TensorSpec:
    quantization = detail["quantization_parameters"]
    if len(quantization["scales"]) > 1:
        raise BadData(
            f"tensor {detail['name']}",
            seen="quantized per channel",
            fix="quantize inputs and outputs per tensor",
        )
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"])
    return TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]), float(scale), int(zero_point))


def _count_nodes(interpreter: Any) -> tuple[int, int]:
    """Return how many delegate nodes the graph has and how many operators the model."""
    names = [op["op_name"] for op in interpreter._get_ops_details()]  # noqa: SLF001  the only place that tells
    return names.count("DELEGATE"), len(names) - names.count("DELEGATE")


def _why_slow(runtime: str) -> str:
    if runtime == "tflite-runtime":
        return "tflite-runtime never gives INT8 to it: pip install ai-edge-litert"
    return "make /proc/cpuinfo and /sys visible to the service (no ProcSubset=pid)"
