"""Networks of a few operators as .tflite files, of input x, float32 (1, 32, 32, 3), and one output: good and broken.

What each does it does by itself, on the real runtime: nothing is patched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = 32
_HEAD = b"TFL3"
_KINDS = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}


class Graph:
    """One graph of a model in the making; tensors go by their numbers."""

    def __init__(self, model: Model) -> None:
        self._model, self.graph = model, schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []

    def input(self, *shape: int, dtype: Any = np.float32) -> int:
        """Add an input."""
        self.graph.inputs.append(self._tensor(shape, np.dtype(dtype), 0))
        return int(self.graph.inputs[-1])

    def constant(self, value: Any, dtype: Any = np.float32) -> int:
        """Add numbers that stay."""
        array = np.asarray(value, dtype)
        return self._tensor(array.shape, array.dtype, self._model.keep(array))

    def add(
        self, code: int, inputs: list[int], *shape: int, dtype: Any = np.float32, options: Any = None
    ) -> int:
        """Add an operator with one output of `shape`; return that."""
        return self.add_all(code, inputs, [(shape, dtype)], options)[0]

    def add_all(self, code: int, inputs: list[int], outputs: list[Any], options: Any = None) -> list[int]:
        """Add an operator with several outputs, each a shape and a dtype."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._model.code(code)
        operator.inputs = inputs
        operator.outputs = [self._tensor(shape, np.dtype(dtype), 0) for shape, dtype in outputs]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.graph.operators.append(operator)
        return list(operator.outputs)

    def end(self, *outputs: int) -> None:
        """Name the outputs."""
        self.graph.outputs = list(outputs)

    def _tensor(self, shape: Any, dtype: Any, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), _KINDS[dtype], buffer
        tensor.name = f"t{len(self.graph.tensors)}"
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


class Model:
    """A model in the making; its first graph is what runs."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers, self._model.operatorCodes, self._model.subgraphs = [schema.BufferT()], [], []

    def graph(self) -> Graph:
        """Begin another graph."""
        made = Graph(self)
        self._model.subgraphs.append(made.graph)
        return made

    def keep(self, array: NDArray[Any]) -> int:
        """Return the number of a new buffer with `array`."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def code(self, builtin: int) -> int:
        """Return the number of an operator's kind."""
        for number, code in enumerate(self._model.operatorCodes):
            if code.builtinCode == builtin:
                return number
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def pack(self) -> bytes:
        """Return the file."""
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), _HEAD)
        return bytes(builder.Output())


def good(factor: Any = 1.0) -> bytes:
    """Return a network whose three scores are the means of the colours, times `factor`."""
    model = Model()
    graph = model.graph()
    mean = _mean(graph, graph.input(1, SIZE, SIZE, 3), 3)
    graph.end(_times(graph, mean, factor))
    return model.pack()


def not_a_number() -> bytes:
    """Return one with a weight that is no number."""
    return good([1.0, float("nan"), 1.0])


def not_a_number_at_work(least: float = 0.4) -> bytes:
    """Return one whose third score is no number where blue, of 1, is below `least`: in the sample clip, in no trial."""
    model = Model()
    graph = model.graph()
    mean = _mean(graph, graph.input(1, SIZE, SIZE, 3), 3)
    less = graph.constant([[0.0, 0.0, -least]])
    shifted = graph.add(schema.BuiltinOperator.ADD, [mean, less], 1, 3, options=schema.AddOptionsT())
    graph.end(graph.add(schema.BuiltinOperator.SQRT, [shifted], 1, 3))
    return model.pack()


def constant() -> bytes:
    """Return one whose scores are 0 for every picture."""
    return good(0.0)


def wrong_shape() -> bytes:
    """Return one with six scores for three labels."""
    model = Model()
    graph = model.graph()
    mean = _mean(graph, graph.input(1, SIZE, SIZE, 3), 3)
    graph.end(graph.add(schema.BuiltinOperator.CONCATENATION, [mean, mean], 1, 6, options=_concatenation()))
    return model.pack()


def large(side: int = 26_000) -> bytes:
    """Return one that enlarges its picture to `side` pixels before it looks at it: 8 GB by default."""
    model = Model()
    graph = model.graph()
    picture = graph.input(1, SIZE, SIZE, 3)
    size = graph.constant([side, side], np.int32)
    code = schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
    options = schema.ResizeNearestNeighborOptionsT()
    enlarged = graph.add(code, [picture, size], 1, side, side, 3, options=options)
    graph.end(_mean(graph, enlarged, 3))
    return model.pack()


def looping(times: int | None, channels: int = 64) -> bytes:
    """Return one that convolves its picture again and again, `times` or (None) without an end, for its scores."""
    model = Model()
    graph = model.graph()
    picture = graph.input(1, SIZE, SIZE, 3)
    zeros = schema.PadOptionsT()
    pads = graph.constant([[0, 0], [0, 0], [0, 0], [0, channels - 3]], np.int32)
    wide = graph.add(schema.BuiltinOperator.PAD, [picture, pads], 1, SIZE, SIZE, channels, options=zeros)
    _, looped = _loop(graph, graph.constant(0, np.int32), wide, channels)
    mean = _mean(graph, looped, channels)
    begin, size = graph.constant([0, 0], np.int32), graph.constant([1, 3], np.int32)
    graph.end(
        graph.add(schema.BuiltinOperator.SLICE, [mean, begin, size], 1, 3, options=schema.SliceOptionsT())
    )
    _go_on(model.graph(), times, channels)
    _convolve(model.graph(), channels)
    return model.pack()


def crashing() -> bytes:
    """Return one whose loop has itself as its body: the runtime follows it until its stack ends."""
    model = Model()
    graph = model.graph()
    picture = graph.input(1, SIZE, SIZE, 3)
    graph.end(_mean(graph, _loop(graph, graph.constant(0, np.int32), picture, 3)[1], 3))
    _go_on(model.graph(), 1, 3)
    body = model.graph()
    counter, picture = body.input(dtype=np.int32), body.input(1, SIZE, SIZE, 3)
    body.end(*_loop(body, counter, picture, 3))
    return model.pack()


def _loop(graph: Graph, counter: int, picture: int, channels: int) -> list[int]:
    """Add a loop with the second graph as its condition and the third as its body."""
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    shapes = [((), np.int32), ((1, SIZE, SIZE, channels), np.float32)]
    return graph.add_all(schema.BuiltinOperator.WHILE, [counter, picture], shapes, options)


def _go_on(graph: Graph, times: int | None, channels: int) -> None:
    counter = graph.input(dtype=np.int32)
    graph.input(1, SIZE, SIZE, channels)
    most = graph.constant(2**31 - 1 if times is None else times, np.int32)
    code = schema.BuiltinOperator.LESS_EQUAL if times is None else schema.BuiltinOperator.LESS
    options = schema.LessEqualOptionsT() if times is None else schema.LessOptionsT()
    graph.end(graph.add(code, [counter, most], dtype=np.bool_, options=options))


def _convolve(graph: Graph, channels: int) -> None:
    counter = graph.input(dtype=np.int32)
    picture = graph.input(1, SIZE, SIZE, channels)
    more = graph.add(
        schema.BuiltinOperator.ADD,
        [counter, graph.constant(1, np.int32)],
        dtype=np.int32,
        options=schema.AddOptionsT(),
    )
    weights = np.zeros((channels, 3, 3, channels), np.float32)
    weights[range(channels), 1, 1, range(channels)] = 1  # the picture stays as it is
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    inputs = [picture, graph.constant(weights), graph.constant(np.zeros(channels))]
    same = graph.add(schema.BuiltinOperator.CONV_2D, inputs, 1, SIZE, SIZE, channels, options=options)
    graph.end(more, same)


def _mean(graph: Graph, picture: int, channels: int) -> int:
    axes = graph.constant([1, 2], np.int32)
    return graph.add(
        schema.BuiltinOperator.MEAN, [picture, axes], 1, channels, options=schema.ReducerOptionsT()
    )


def _times(graph: Graph, scores: int, factor: Any) -> int:
    by = graph.constant(np.broadcast_to(np.float32(factor), (1, 3)))
    return graph.add(schema.BuiltinOperator.MUL, [scores, by], 1, 3, options=schema.MulOptionsT())


def _concatenation() -> Any:
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    return options
