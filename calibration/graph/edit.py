"""An ONNX graph under the knife: who makes a tensor, who reads it, and its constants as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_AXES = 4
"""Those of a feature map, (1, C, H, W)."""
_IR_VERSION = 4
"""The first of ONNX in which a constant need not be listed among the inputs."""


class Graph:
    """A copy of `model` to edit. Look-ups are made anew at each call: graphs have hundreds of nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self._take_in_constants()
        self._constants = {i.name: numpy_helper.to_array(i) for i in self.model.graph.initializer}
        self._changed: set[str] = set()

    @property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes, in order, as they are now."""
        return tuple(self.model.graph.node)

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return int(next(o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")))

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that makes `tensor`; None for inputs and constants."""
        return next((n for n in self.model.graph.node if tensor in n.output), None)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read `tensor`."""
        return [n for n in self.model.graph.node if tensor in n.input]

    def alone(self, tensor: str) -> bool:
        """Say whether one node alone sees `tensor`: it has one reader and is not handed out."""
        return len(self.consumers(tensor)) == 1 and not self.is_output(tensor)

    def is_output(self, tensor: str) -> bool:
        """Say whether the graph hands `tensor` out."""
        return any(o.name == tensor for o in self.model.graph.output)

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """Return the value of `tensor` if it is constant."""
        return self._constants.get(tensor)

    def scalar(self, tensor: str) -> float | None:
        """Return the value of `tensor` if it is one constant number, of no more axes than a feature map."""
        value = self.constant(tensor)
        single = value is not None and value.size == 1 and value.ndim <= _AXES
        return float(value.reshape(-1)[0]) if value is not None and single else None

    def add_constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant named after `name`; return its name."""
        while name in self._constants:
            name += "_"
        self._constants[name] = value
        self._changed.add(name)
        return name

    def set_constant(self, node: onnx.NodeProto, index: int, value: NDArray[Any]) -> None:
        """Make `value` the constant input `index` of `node` alone: others that share it keep the old one."""
        old = node.input[index] if index < len(node.input) else f"{node.output[0]}_constant_{index}"
        while len(node.input) <= index:
            node.input.append("")
        shared = len(self.consumers(old)) > 1
        name = self.add_constant(f"{old}_of_{node.output[0]}", value) if shared else old
        node.input[index] = name
        self._constants[name] = value
        self._changed.add(name)

    def rewire(self, old: str, new: str) -> None:
        """Make every reader of `old` read `new`."""
        for node in self.consumers(old):
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def remove(self, node: onnx.NodeProto) -> None:
        """Take `node` out; its output must have no reader left."""
        self.model.graph.node.remove(node)

    def bypass(self, node: onnx.NodeProto, tensor: str) -> None:
        """Take `node` out and let `tensor` stand for its only output; an Identity where both are handed out."""
        (out,) = node.output
        maker = self.producer(tensor)
        if self.is_output(out) and (maker is None or self.is_output(tensor)):
            self.replace(node, [helper.make_node("Identity", [tensor], [out], name=node.name)])
            return
        self.remove(node)
        if maker is not None and self.is_output(out):
            self.rewire(tensor, out)
            maker.output[list(maker.output).index(tensor)] = out
        else:
            self.rewire(out, tensor)

    def replace(self, node: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
        """Put the nodes `new` in the place of `node`."""
        place = list(self.model.graph.node).index(node)
        self.remove(node)
        for offset, each in enumerate(new):
            self.model.graph.node.insert(place + offset, each)

    def prune(self) -> None:
        """Take out the nodes whose outputs nobody reads, and those that only these read."""
        wanted = {o.name for o in self.model.graph.output}
        for node in reversed(self.nodes):
            if wanted.isdisjoint(node.output):
                self.remove(node)
            else:
                wanted.update(node.input)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Infer the shapes of all tensors; those with an unknown size are left out."""
        known = onnx.shape_inference.infer_shapes(self.finish(), data_prop=True).graph
        found = {}
        for value in (*known.value_info, *known.input, *known.output):
            sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
            if all(sizes):
                found[value.name] = tuple(sizes)
        return found

    def finish(self) -> onnx.ModelProto:
        """Return the model as edited, without constants and shapes that belong to nothing."""
        graph = self.model.graph
        read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
        kept = [i for i in graph.initializer if i.name in read and i.name not in self._changed]
        new = [
            numpy_helper.from_array(np.ascontiguousarray(self._constants[name]), name)
            for name in sorted(self._changed & read)
        ]
        del graph.initializer[:]
        graph.initializer.extend((*kept, *new))
        self._changed.clear()
        made = {name for node in graph.node for name in node.output}
        for value in [value for value in graph.value_info if value.name not in made]:
            graph.value_info.remove(value)
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        return result

    def _take_in_constants(self) -> None:
        """Make initializers of Constant nodes, and of inputs with a value: there is one kind of constant."""
        graph = self.model.graph
        self.model.ir_version = max(self.model.ir_version, _IR_VERSION)
        weights = {initializer.name for initializer in graph.initializer}
        for value in [value for value in graph.input if value.name in weights]:
            graph.input.remove(value)
        for node in [n for n in graph.node if n.op_type == "Constant"]:
            tensors = [a.t for a in node.attribute if a.name == "value"]
            if tensors:
                initializer = graph.initializer.add()
                initializer.CopyFrom(tensors[0])
                initializer.name = node.output[0]
                graph.node.remove(node)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, `default` when it is not given."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
