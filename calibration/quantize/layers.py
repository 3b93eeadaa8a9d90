"""The damage of every layer, measured by quantizing it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.wholefile import write_whole
from calibration.quantize.damage import output_error, outputs_of
from calibration.quantize.groups import groups_of, names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from calibration.quantize.groups import Group
    from calibration.quantize.network import Network
    from calibration.quantize.variants import Workshop

    Progress = Callable[[str, int, int], None]

_BATCH = 16
"""Networks that one start of the quantizer makes."""


def layer_damages(
    network: Network,
    workshop: Workshop,
    probes: Sequence[NDArray[np.float32]],
    progress: Progress,
) -> list[tuple[Group, float]]:
    """Return each group of `network` with its `output_error` over `probes`, the worst first.

    What was measured is kept in the folder of `workshop`; the networks themselves are not.
    """
    groups = groups_of(network)
    every = set(range(len(network.operators)))
    alone = [names_of(network, every.difference(group.operators)) for group in groups]
    notes = [workshop.file(names).with_suffix(".damage.json") for names in alone]
    reference = outputs_of(workshop.float_tflite, probes)
    missing = [n for n, note in enumerate(notes) if _known(note) is None]
    for start in range(0, len(missing), _BATCH):
        progress("damage of each layer", len(groups) - len(missing) + start, len(groups))
        batch = missing[start : start + _BATCH]
        for n, file in zip(batch, workshop.make([alone[n] for n in batch]), strict=True):
            damage = output_error(reference, outputs_of(file, probes))
            write_whole(notes[n], msgspec.json.encode(damage))
            file.unlink()
    found = [(group, _known(note) or 0.0) for group, note in zip(groups, notes, strict=True)]
    return sorted(found, key=lambda one: -one[1])


def _known(note: Path) -> float | None:
    try:
        return msgspec.json.decode(note.read_bytes(), type=float)
    except (OSError, msgspec.DecodeError):
        return None
