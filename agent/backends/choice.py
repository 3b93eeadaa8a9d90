"""One way to run a model on a device: which backend, which weights, how many threads."""

from __future__ import annotations

from typing import Literal

import msgspec

BackendName = Literal["tensorrt", "litert", "tflite-runtime"]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`artifact` is the name of a file in the bundle, of `precision`.

    `delegate` False: TFLite's own kernels instead of XNNPACK.
    """

    backend: BackendName
    artifact: str
    precision: str
    threads: int
    delegate: bool = True

    def __str__(self) -> str:
        """Return it in words, such as `litert int8, 2 threads, no delegate`."""
        words = [f"{self.backend} {self.precision}"]
        if self.backend != "tensorrt":
            words.append(f"{self.threads} {'thread' if self.threads == 1 else 'threads'}")
        if not self.delegate:
            words.append("no delegate")
        return ", ".join(words)
