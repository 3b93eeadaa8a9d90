"""An open batch: one network for any number of pictures at once, where its graph does not hold the number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from calibration.graph.edit import Graph

if TYPE_CHECKING:
    from typing import Any

    import onnx
    from numpy.typing import NDArray

SYMBOL = "n"
"""The name of the number of pictures, in inputs and outputs."""
_TRIED = (1, 2, 4)
_TOLERANCE = 1e-4
"""Largest difference, as a share of the output's largest value: other batches are summed up in another order."""


def open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model`, of one picture, for any number of them; as it is where it can't be or is already.

    Reshapes keep the first size of what they read. That each picture of a batch gets what it gets alone is tried
    out, by ONNX Runtime.
    """
    if is_open(model):
        return model
    graph = Graph(model)
    shapes = graph.shapes()
    for node in graph.nodes:
        target = graph.constant(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and target.size and target[0] == 1 == shapes.get(node.input[0], (0,))[0]:
            graph.set_constant(node, 1, np.array([0, *target[1:]], np.int64))
    opened = graph.finish()
    del opened.graph.value_info[:]
    for value in (*opened.graph.input, *opened.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if not sizes or sizes[0].dim_value != 1:
            return model
        sizes[0].dim_param = SYMBOL
    return opened if _same_by_picture(model, opened) else model


def is_open(model: onnx.ModelProto) -> bool:
    """Tell whether `model` takes any number of pictures at once."""
    values = (*model.graph.input, *model.graph.output)
    return all(v.type.tensor_type.shape.dim and v.type.tensor_type.shape.dim[0].dim_param for v in values)


def _same_by_picture(single: onnx.ModelProto, opened: onnx.ModelProto) -> bool:
    """Tell whether `opened` makes of each picture of a batch what `single` makes of it, and nothing between them."""
    try:
        alone, together = _session(single), _session(opened)
        (feed,) = alone.get_inputs()
        pictures = np.random.default_rng(0).random((max(_TRIED), *feed.shape[1:]), np.float32)
        wanted = [alone.run(None, {feed.name: pictures[i : i + 1]}) for i in range(max(_TRIED))]
        found = {count: together.run(None, {feed.name: pictures[:count]}) for count in _TRIED}
    except Exception:  # noqa: BLE001 - the runtime's own exceptions share no public base: it does not run as a batch
        return False
    return all(
        _alike(output, np.concatenate([each[index] for each in wanted[:count]]))
        for count, outputs in found.items()
        for index, output in enumerate(outputs)
    )


def _alike(seen: NDArray[Any], wanted: NDArray[Any]) -> bool:
    if seen.shape != wanted.shape:
        return False
    largest = float(np.abs(wanted).max(initial=0)) or 1.0
    return float(np.abs(seen - wanted).max(initial=0)) <= _TOLERANCE * largest


def _session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
