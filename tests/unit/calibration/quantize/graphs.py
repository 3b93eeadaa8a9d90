"""Small networks, written down operator by operator."""

from __future__ import annotations

import numpy as np

from calibration.quantize.network import Network, Operator, Tensor


def network(
    *lines: tuple[str, str, tuple[str, ...], int], outputs: tuple[str, ...], size: int = 8
) -> Network:
    """Return the network of `lines`: name of the output, kind, names of the inputs, multiplications.

    Names that nothing writes are inputs; each tensor has `size` values.
    """
    written = [name for name, *_ in lines]
    read = dict.fromkeys(name for _, _, inputs, _ in lines for name in inputs if name not in written)
    names = [*read, *written]
    number = {name: n for n, name in enumerate(names)}
    return Network(
        tuple(Tensor(name, (1, size), real=True, constant=False) for name in names),
        tuple(
            Operator(name, kind, tuple(number[one] for one in inputs), (number[name],), macs)
            for name, kind, inputs, macs in lines
        ),
        tuple(number[name] for name in read),
        tuple(number[name] for name in outputs),
    )


SILU = network(
    ("a", "CONV_2D", ("image",), 640),
    ("gate", "LOGISTIC", ("a",), 0),
    ("silu", "MUL", ("a", "gate"), 0),
    ("boxes", "CONV_2D", ("silu",), 320),
    ("logits", "CONV_2D", ("silu",), 320),
    ("scores", "LOGISTIC", ("logits",), 0),
    ("joined", "CONCATENATION", ("boxes", "scores"), 0),
    ("out", "RESHAPE", ("joined",), 0),
    outputs=("out",),
)
"""A convolution with SiLU, then boxes and scores that are joined at the end."""


def number_of(graph: Network, name: str) -> int:
    """Return the number of the tensor `name`."""
    return [tensor.name for tensor in graph.tensors].index(name)


def normal(seed: int, count: int, scale: float = 1.0) -> np.ndarray:
    """Return `count` values around 0."""
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype(np.float32)
