"""A .tflite file as objects of its schema."""

from __future__ import annotations

import struct
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from agent.errors import BadData

_IDENTIFIER = b"TFL3"
_KINDS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def read_model(content: bytes, name: str = "the model") -> Any:
    """Return the ModelT of a .tflite with one subgraph. Raises BadData, which calls it `name`."""
    if content[4:8] != _IDENTIFIER:
        raise BadData(f"{name} is not a .tflite", seen=content[4:8], fix="convert the model again")
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise BadData(f"{name} is damaged", seen=error, fix="convert the model again") from None
    if len(model.subgraphs) != 1:
        fix = "export the model without control flow"
        raise BadData(f"{name}: graphs in it", seen=len(model.subgraphs), fix=fix)
    return model


def kind_of(operator: Any, model: Any) -> str:
    """Return the name of an OperatorT of `model`, such as "CONV_2D"."""
    code = model.operatorCodes[operator.opcodeIndex]
    return str(_KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)])
