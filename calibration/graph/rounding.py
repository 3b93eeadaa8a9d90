"""One tensor of a float .tflite rounded to INT8, all else left as it is: what that tensor alone costs."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from calibration.graph.flat import FlatGraph

_LEAST, _MOST = -128, 127
_LEAST_STEP = 1e-12


class Rounding:
    """The float .tflite `data` with the tensor numbered `tensor`, which something reads, held in INT8."""

    def __init__(self, data: bytes, tensor: int) -> None:
        graph = FlatGraph(data)
        name = graph.round_trip(tensor)
        self._content = bytearray(graph.pack())
        packed = schema.Model.GetRootAs(self._content).Subgraphs(0)
        names = [packed.Tensors(n).Name() for n in range(packed.TensorsLength())]
        held = packed.Tensors(names.index(name.encode())).Quantization()
        self._step, self._zero_point = held.ScaleAsNumpy(), held.ZeroPointAsNumpy()

    def at(self, low: float, high: float) -> bytes:
        """Return the file where INT8 holds the range `low` to `high`, zero in it."""
        step = max((high - low) / (_MOST - _LEAST), _LEAST_STEP)
        self._step[0] = step  # a view into the file
        self._zero_point[0] = np.clip(np.rint(_LEAST - low / step), _LEAST, _MOST)
        return bytes(self._content)
