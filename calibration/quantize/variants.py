"""Making INT8 networks by litert-quantizer: each once, kept under a name that stands for how it was made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from agent.wholefile import write_whole
from calibration.graph import bounded_biases, moved_biases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from calibration.environments import Environment
    from calibration.quantize.ranges import Range

_WORKER = Path(__file__).parents[1] / "workers" / "quantize.py"


@dataclass(frozen=True, eq=False)
class Workshop:
    """Makes INT8 versions of `float_tflite` with `ranges`, tensor by tensor, in `folder`.

    `bounded`: biases that would not fit into INT32 are made to, which the quantizer itself does not see to.
    `moves` are added to the biases, see `moved_biases`.
    """

    float_tflite: Path
    ranges: Mapping[str, Range]
    folder: Path
    environment: Environment
    bounded: bool = True
    moves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def make(self, kept_in_float: Sequence[tuple[str, ...]]) -> list[Path]:
        """Return a file for each of `kept_in_float`, names of operators; only those not there yet are made.

        Raises BadData when the quantizer fails, CannotCreate.
        """
        files = [self.file(names) for names in kept_in_float]
        missing = {
            file: names for file, names in zip(files, kept_in_float, strict=True) if not file.is_file()
        }
        if missing:
            raw = {file: file.with_suffix(".raw") for file in missing}
            self._run(
                [{"out": str(raw[file].absolute()), "float_ops": names} for file, names in missing.items()]
            )
            for file, made in raw.items():
                content = made.read_bytes()
                write_whole(file, moved_biases(content, self.moves) if self.moves else content)
                made.unlink()
        return files

    def file(self, names: tuple[str, ...]) -> Path:
        """Return where the network with `names` in float is, or will be."""
        return self.folder / f"{_digest(json.dumps([self._key, names]).encode())}.tflite"

    def _run(self, variants: list[dict[str, object]]) -> None:
        source = self.folder / f"{self._key}.float"
        job = self.folder / f"{_digest(json.dumps(variants).encode())}.job"
        task = {"model": str(source.absolute()), "ranges": dict(self.ranges), "variants": variants}
        write_whole(source, self._source)
        write_whole(job, json.dumps(task).encode())
        try:
            self.environment.run(_WORKER, job.absolute())
        finally:
            job.unlink()
            source.unlink()

    @cached_property
    def _source(self) -> bytes:
        content = self.float_tflite.read_bytes()
        return bounded_biases(content, self.ranges) if self.bounded else content

    @cached_property
    def _key(self) -> str:
        """Stands for all that the files are made from and by, besides the names."""
        described = json.dumps([sorted(self.ranges.items()), sorted(self.environment.versions.items())])
        moves = (name.encode() + move.tobytes() for name, move in sorted(self.moves.items()))
        parts = (self._source, described.encode(), _WORKER.read_bytes(), *moves)
        return _digest(b"".join(map(_hash, parts)))


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]
