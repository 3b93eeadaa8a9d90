"""Rewrites of an ONNX network before it is converted: the same function, fit for INT8 on small CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from calibration.graph.activations import spell_out_activations
from calibration.graph.batch import open_batch
from calibration.graph.biases import OUTPUT_AXIS, bounded_biases, moved_biases
from calibration.graph.constants import fold_constants
from calibration.graph.equalize import equalize
from calibration.graph.flat import FlatGraph
from calibration.graph.focus import fold_focus
from calibration.graph.joins import join_channels_last
from calibration.graph.layout import (
    channels_first_input,
    drop_idle_reshapes,
    relu_before_concat,
    sized_pooling,
)
from calibration.graph.rounding import Rounding
from calibration.graph.size import fix_size
from calibration.graph.tidy import tidy_tflite

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "OUTPUT_AXIS",
    "FlatGraph",
    "Prepared",
    "Rounding",
    "bounded_biases",
    "equalize",
    "fix_size",
    "moved_biases",
    "open_batch",
    "prepare",
    "tidy_tflite",
]

_REWRITES: tuple[tuple[str, Callable[[onnx.ModelProto], onnx.ModelProto]], ...] = (
    ("input made channels first", channels_first_input),
    ("the stem's slices folded into its convolution", fold_focus),
    ("heads joined channels last", join_channels_last),
    ("idle reshapes taken out", drop_idle_reshapes),
    ("hard-swish and hard-sigmoid spelled out", spell_out_activations),
    ("constant factors and terms folded into convolutions", fold_constants),
    ("ReLU moved before concatenations", relu_before_concat),
    ("global pooling given its size", sized_pooling),
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The network to convert, and what was done to it."""

    model: onnx.ModelProto
    notes: tuple[str, ...]


def prepare(model: onnx.ModelProto, *, width: int | None = None, height: int | None = None) -> Prepared:
    """Return `model` with a fixed input size (None: its own) and rewritten; it computes the same.

    Raises BadData when the size can't be fixed.
    """
    now = fix_size(model, width=width, height=height)
    notes = [] if now is model else ["input size fixed"]
    for name, rewrite in _REWRITES:
        new = rewrite(now)
        if _nodes(new) != _nodes(now):
            notes.append(f"{name} ({len(now.graph.node)} -> {len(new.graph.node)} operators)")
        now = new
    onnx.checker.check_model(now)
    return Prepared(now, tuple(notes))


def _nodes(model: onnx.ModelProto) -> list[str]:
    return [f"{node.op_type} {list(node.input)}" for node in model.graph.node]
