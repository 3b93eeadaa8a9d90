"""Ranges by trial: of several for a tensor, the one that does the least to the outputs when it alone is in INT8."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import msgspec

from agent.wholefile import write_whole
from calibration.graph import Rounding
from calibration.quantize.damage import output_error, outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from calibration.quantize.damage import Outputs
    from calibration.quantize.network import Network
    from calibration.quantize.ranges import Range

    Ranges = Mapping[str, Range]
    Progress = Callable[[str, int, int], None]

_ALIKE = 0.1
"""Ranges whose bounds differ by less than this fraction of their width need no trial."""


def least_damage(
    float_tflite: Path,
    network: Network,
    ways: Sequence[Ranges],
    probes: Sequence[NDArray[np.float32]],
    work: Path,
    progress: Progress,
) -> Ranges:
    """Return for each tensor the range out of `ways` that has the least `output_error` over `probes`.

    Where two are equal it is the first. What was found is kept in `work`, a folder for these `probes` alone.
    Raises BadData, CannotCreate.
    """
    content = float_tflite.read_bytes()
    note = work / f"{_digest(content, ways)}.trial.json"
    several = {number: _several(network, number, ways) for number in network.activations}
    doubtful = [
        number for number, ranges in several.items() if number in network.consumers and len(ranges) > 1
    ]
    found = _known(note)
    missing = [number for number in doubtful if network.tensors[number].name not in found]
    reference = outputs_of(float_tflite, probes) if missing else []
    for done, number in enumerate(missing, start=len(doubtful) - len(missing)):
        progress("range of each tensor", done, len(doubtful))
        rounding, ranges = Rounding(content, number), several[number]
        damages = [_damage(rounding.at(*one), reference, probes) for one in ranges]
        found[network.tensors[number].name] = ranges[damages.index(min(damages))]
        write_whole(note, msgspec.json.encode(found))
    return {**ways[0], **found}


def _damage(content: bytes, reference: Outputs, probes: Sequence[NDArray[np.float32]]) -> float:
    with NamedTemporaryFile(suffix=".tflite") as file:
        file.write(content)
        file.flush()
        return output_error(reference, outputs_of(Path(file.name), probes))


def _several(network: Network, tensor: int, ways: Sequence[Ranges]) -> list[Range]:
    """Return the ranges of `tensor` that are not alike."""
    kept: list[Range] = []
    for way in ways:
        low, high = way[network.tensors[tensor].name]
        near = _ALIKE * (high - low)
        if all(abs(low - one[0]) > near or abs(high - one[1]) > near for one in kept):
            kept.append((low, high))
    return kept


def _known(note: Path) -> dict[str, Range]:
    try:
        return msgspec.json.decode(note.read_bytes(), type=dict[str, tuple[float, float]])
    except (OSError, msgspec.DecodeError):
        return {}


def _digest(content: bytes, ways: Sequence[Ranges]) -> str:
    described = msgspec.json.encode([sorted(way.items()) for way in ways])
    return hashlib.sha256(hashlib.sha256(content).digest() + described).hexdigest()[:24]
