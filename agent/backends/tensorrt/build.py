"""From ONNX to a TensorRT engine: one way for versions 10.3 to 11, strongly typed, INT8 by Q/DQ."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.backends.tensorrt.module import create, flag_bit, make_log
from agent.bundle.files import read_weights
from agent.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Progress = Callable[[float, str], None]

log = logging.getLogger(__name__)

_NODES_TOLD = 3


@dataclass(frozen=True, slots=True)
class Built:
    """What a build came to: the engine, the outputs' names in the ONNX file's order, the timings for the next build.

    `batch` is how many pictures it takes at once. `timing_cache` None: this TensorRT keeps none.
    """

    plan: bytes
    outputs: tuple[str, ...]
    batch: int
    timing_cache: bytes | None


def build_engine(
    trt: ModuleType,
    onnx: Path | bytes,
    *,
    workspace_bytes: int,
    batch: int = 1,
    timing_cache: bytes | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build `onnx` for the GPU here. The file's own number types are kept: FP16 and INT8 come from the file.

    `batch` is the largest that is built for, where the file leaves the first dimension open; else it is 1.
    `progress` is told the share done, 0..1, and TensorRT's name of the work, from any thread.
    Raises InputMissing, BadData naming node, operator and reason when TensorRT refuses it, ServiceAway without
    a GPU that it can use.
    """
    raw = read_weights(onnx) if isinstance(onnx, Path) else onnx
    logger = make_log(trt)
    builder = create(trt, "Builder", logger)
    network = builder.create_network(flag_bit(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"))
    _parse(trt, network, raw, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    most = _add_profile(builder, config, network.get_input(0), batch)
    keeps_timings = _set_timings(config, timing_cache)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        fix = "free memory, or use another model or precision"
        raise BadData("TensorRT can't build this model", seen=logger.last(), fix=fix)
    outputs = tuple(network.get_output(index).name for index in range(network.num_outputs))
    kept = bytes(config.get_timing_cache().serialize()) if keeps_timings else None
    return Built(bytes(plan), outputs, most, kept)


def _parse(trt: ModuleType, network: Any, raw: bytes, logger: Any) -> None:
    """Fill `network` from the ONNX file `raw`."""
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(raw):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = "; ".join(map(_told, errors[:_NODES_TOLD])) or logger.last()
        more = len(errors) - _NODES_TOLD
        seen = f"{told}, and {more} more" if more > 0 else told
        raise BadData("TensorRT refuses this ONNX file", seen=seen, fix="convert the model again, or another")
    if network.num_inputs != 1 or not network.num_outputs:
        seen = f"{network.num_inputs} inputs, {network.num_outputs} outputs"
        raise BadData(
            "ONNX file", seen=seen, fix="one image input and an output at least is what the agent runs"
        )


def _told(error: Any) -> str:
    """Return node, operator and reason of a parser's error; it speaks C++: `Assertion failed: (x > 0): the reason`."""
    said = error.desc()
    quoted = re.search(r'"([^"]+)"\s*$', said)
    reason = quoted[1] if quoted else said.rpartition("): ")[2].removeprefix("Assertion failed: ")
    if reason in {"", "false"}:
        reason = "not supported"
    operator = error.node_operator()
    if not operator:
        return str(reason)
    return f"node {error.node_name() or error.node()} ({operator}): {reason}"


def _set_timings(config: Any, timing_cache: bytes | None) -> bool:
    """Give the build the timings of the last one, none if they are of another GPU; tell if it keeps any."""
    for content in (timing_cache or b"", b""):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
            return True
    return False


def _add_profile(builder: Any, config: Any, tensor: Any, batch: int) -> int:
    """Allow batches of 1 to `batch` if the first dimension of the input is open; return the largest batch.

    Raises BadData when another dimension is, or a batch is fixed.
    """
    first, *rest = tensor.shape
    if first > 1 or any(size < 1 for size in rest):
        fix = "give the model a fixed input size, and a batch of 1 or an open one"
        raise BadData(f"tensor {tensor.name}: shape", seen=tuple(tensor.shape), fix=fix)
    if first == 1:
        return 1
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, (1, *rest), (batch, *rest), (batch, *rest))
    config.add_optimization_profile(profile)
    return batch


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    """Return TensorRT's monitor that tells `progress` of its nested phases as one share."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # a base class found at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, list[int]] = {}  # steps done and steps in all, from the outermost in
            self._told = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._phases[phase_name] = [0, max(1, num_steps)]
            progress(self._share(), phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._phases[phase_name][0] = step + 1
            progress(self._share(), phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _share(self) -> float:
            share = 0.0
            for done, steps in reversed(list(self._phases.values())):
                share = min(1.0, (done + share) / steps)
            self._told = max(self._told, share)  # phases side by side end in any order
            return self._told

    return Monitor()
