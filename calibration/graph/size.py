"""A fixed size of the input: what the artifacts are made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort

from agent.errors import BadData
from calibration.graph.edit import Graph

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHANNELS = (1, 3)


def fix_size(model: onnx.ModelProto, *, width: int | None, height: int | None) -> onnx.ModelProto:
    """Return `model` for a batch of one and the given size, None: as it is.

    Raises BadData when the model has a free size and none is given, has another kind of input, or holds
    constants (anchors, grids, shapes) that were made for another size.
    """
    graph = Graph(model)
    entry = graph.model.graph.input[0]
    shape = entry.type.tensor_type.shape
    axes = image_axes([d.dim_value for d in shape.dim])
    wanted = {0: 1}
    for axis, size, name in ((axes[0], height, "height"), (axes[1], width, "width")):
        known = shape.dim[axis].dim_value
        if size is None and not known:
            raise BadData(f"the {name} of the model's input", seen="free", fix="give one with --size WxH")
        wanted[axis] = size or known
    if all(shape.dim[axis].dim_value == size for axis, size in wanted.items()):
        return model
    for axis, size in wanted.items():
        shape.dim[axis].dim_value = size
    _forget_shapes(graph.model)
    return _with_shapes(graph.model, f"{wanted[axes[1]]}x{wanted[axes[0]]}")


def image_axes(sizes: Sequence[int]) -> tuple[int, int]:
    """Return which axes of an input are height and width. Raises BadData for one that is no picture."""
    if len(sizes) == 4 and sizes[1] in _CHANNELS:
        return 2, 3
    if len(sizes) == 4 and sizes[3] in _CHANNELS:
        return 1, 2
    raise BadData("model input", seen=list(sizes), fix="one image, (1, 3, H, W) or (1, H, W, 3), is needed")


def _forget_shapes(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]
    for out in model.graph.output:
        out.type.tensor_type.ClearField("shape")


def _with_shapes(model: onnx.ModelProto, size: str) -> onnx.ModelProto:
    """Infer all shapes anew, and run the model once: that finds the constants that don't fit."""
    fix = "export the model again for this size: it holds shapes of another one"
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise BadData(
            f"the model at {size}", seen=str(error).strip().splitlines()[-1][:160], fix=fix
        ) from error
    for out in inferred.graph.output:
        if not all(d.dim_value for d in out.type.tensor_type.shape.dim):
            raise BadData(f"output {out.name} at {size}", seen="no fixed shape", fix=fix)
    del inferred.graph.value_info[:]
    try:
        _run_once(inferred)
    except Exception as error:
        raise BadData(
            f"the model at {size}", seen=str(error).strip().splitlines()[0][:200], fix=fix
        ) from error
    return inferred


def _run_once(model: onnx.ModelProto) -> None:
    """Run `model` on nothing. Raises what ONNX Runtime raises."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    session.run(None, {entry.name: np.zeros(entry.shape, np.float32)})
