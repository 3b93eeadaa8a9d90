"""An ONNX file as the user gives it: read, and refused clearly when nothing can be made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from agent.errors import BadData, InputMissing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STANDARD = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Operator domains that ONNX Runtime has; what else a graph holds are plug-ins of some other runtime."""
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger")
_EXPORT = "export the network alone: without NMS, plug-ins and custom operators"


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The one picture a network takes: `width` and `height` in pixels, None where the graph leaves them open."""

    name: str
    layout: Literal["nhwc", "nchw"]
    width: int | None
    height: int | None


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return the float network in `path`, its weights with it.

    Raises InputMissing; BadData for what is no ONNX, is quantized already, or has operators that are not
    ONNX's own: these are named, with their layer.
    """
    if not path.is_file():
        raise InputMissing("model file not found", seen=path, fix="check the path")
    try:
        model = onnx.load(str(path))
    except DecodeError:
        raise BadData(f"{path} is no ONNX file", fix="export the model again, or copy it again") from None
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        fix = "put its external data beside it, or export it as one file"
        raise BadData(f"{path} can't be read", seen=error, fix=fix) from None
    if not model.graph.node:
        raise BadData(f"{path} is no ONNX file", seen="no operators", fix="export the model again")
    for node in model.graph.node:
        if node.domain not in _STANDARD:
            raise BadData(f"unsupported operator {node.op_type}", seen=_layer(node), fix=_EXPORT)
        if node.op_type in _QUANTIZED:
            fix = "give the FP32 export: quantizing is what this command does"
            raise BadData(f"{path} is quantized already", seen=f"{node.op_type}, {_layer(node)}", fix=fix)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        seen = " ".join(str(error).split())[:200]
        raise BadData(f"{path} is no valid ONNX network", seen=seen, fix=_EXPORT) from None
    return model


def external_data(path: Path) -> dict[str, Path]:
    """Return the files of weights that the ONNX file `path` refers to, by name; none of another kind of file."""
    if path.suffix.lower() != ".onnx":
        return {}
    graph = onnx.load(str(path), load_external_data=False).graph
    outside = (weight for weight in graph.initializer if uses_external_data(weight))
    return {
        name: path.parent / name for name in sorted({ExternalDataInfo(each).location for each in outside})
    }


def image_input(model: onnx.ModelProto) -> ImageInput:
    """Return the input of `model`. Raises BadData unless it is one float32 picture of three channels."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise BadData("model inputs", seen=names, fix="export it with one input, the picture")
    (picture,) = inputs
    tensor = picture.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
    if kind != "FLOAT":
        raise BadData(f"model input {picture.name}", seen=kind, fix="export it in FP32, with float32 input")
    sizes = [size.dim_value or None for size in tensor.shape.dim]
    if len(sizes) == 4 and sizes[1] == 3:
        return ImageInput(picture.name, "nchw", sizes[3], sizes[2])
    if len(sizes) == 4 and sizes[3] == 3:
        return ImageInput(picture.name, "nhwc", sizes[2], sizes[1])
    seen = "x".join(str(size or "?") for size in sizes) or "a scalar"
    fix = "the agent feeds colour pictures: 1x3xHxW or 1xHxWx3"
    raise BadData(f"model input {picture.name}: shape", seen=seen, fix=fix)


def open_shapes(model: onnx.ModelProto) -> Iterator[str]:
    """Yield the names of outputs whose shape is not fixed."""
    for output in model.graph.output:
        sizes = output.type.tensor_type.shape.dim
        if not sizes or any(size.dim_value < 1 for size in sizes):
            yield output.name


def _layer(node: onnx.NodeProto) -> str:
    domain = f" of {node.domain}" if node.domain else ""
    return f"layer {node.name or ', '.join(node.output)}{domain}"
