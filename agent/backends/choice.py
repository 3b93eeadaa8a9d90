"""One way to run a model on a device: which backend, which weights, how many threads."""

from __future__ import annotations

from typing import Literal

import msgspec

BackendName = Literal["tensorrt", "litert", "tflite-runtime"]
BATCH = 4
"""Pictures that wait together in a device with several cameras; more at once only makes each wait longer."""


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`artifact` is the name of a file in the bundle, of `precision`.

    `delegate` False: TFLite's own kernels instead of XNNPACK. `batch`: the most pictures of several cameras that
    a TensorRT engine is built to take at once.
    """

    backend: BackendName
    artifact: str
    precision: str
    threads: int
    delegate: bool = True
    batch: int = 1

    def __str__(self) -> str:
        """Return it in words, such as `litert int8, 2 threads, no delegate`."""
        words = [f"{self.backend} {self.precision}"]
        if self.backend != "tensorrt":
            words.append(f"{self.threads} {'thread' if self.threads == 1 else 'threads'}")
        if not self.delegate:
            words.append("no delegate")
        if self.batch > 1:
            words.append(f"{self.batch} at once")
        return ", ".join(words)
