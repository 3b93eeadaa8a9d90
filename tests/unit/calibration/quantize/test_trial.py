"""Each tensor's range by what it does to the outputs of a real, small network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from calibration.quantize import trial
from calibration.quantize.network import read_network
from calibration.quantize.trial import least_damage
from tests.unit.calibration.graph.flatmodels import flat, options
from tests.unit.calibration.graph.onnxmodels import noise

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 8, 8, 3)
PROBES = [noise(1, 8, 8, 3, seed=seed) for seed in range(3)]
WIDE = {"x": (-4.0, 4.0), "a": (0.0, 400.0), "b": (0.0, 4.0), "y": (0.0, 8.0)}
FITTING = WIDE | {"a": (0.0, 4.0)}
NARROW = FITTING | {"b": (0.0, 0.01)}


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    file = tmp_path / "net.tflite"
    file.write_bytes(
        flat(
            [
                ("RELU", ["x"], "a", SHAPE, None),
                ("RELU", ["a"], "b", SHAPE, None),
                ("ADD", ["a", "b"], "y", SHAPE, options("Add")),
            ]
        )
    )
    return file


def nothing(*_: object) -> None:
    """Tell nobody."""


def test_each_tensor_gets_the_range_that_harms_least(network_file: Path, tmp_path: Path) -> None:
    """Tensor by tensor, out of different ways; what all agree on, and what nobody reads, is left as it is."""
    network = read_network(network_file)
    got = least_damage(network_file, network, [WIDE, FITTING, NARROW], PROBES, tmp_path / "work", nothing)
    assert got == FITTING


def test_a_second_call_measures_nothing(
    network_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is read back, and nothing else is left in the folder."""
    network, work = read_network(network_file), tmp_path / "work"
    told: list[object] = []
    first = least_damage(network_file, network, [WIDE, NARROW], PROBES, work, lambda *what: told.append(what))
    assert told == [("range of each tensor", 0, 2), ("range of each tensor", 1, 2)]
    [note] = work.iterdir()
    written = note.stat().st_mtime_ns
    monkeypatch.setattr(trial, "Rounding", None)
    again = least_damage(network_file, network, [WIDE, NARROW], [np.zeros(SHAPE)], work, nothing)
    assert again == first
    assert note.stat().st_mtime_ns == written


def test_an_interrupted_trial_goes_on(
    network_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor that was measured before the interruption is not measured again."""
    network, work = read_network(network_file), tmp_path / "work"

    def interrupted(_: str, done: int, __: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        least_damage(network_file, network, [WIDE, NARROW], PROBES, work, interrupted)
    measured: list[int] = []

    class Counted(trial.Rounding):
        def __init__(self, data: bytes, tensor: int) -> None:
            measured.append(tensor)
            super().__init__(data, tensor)

    monkeypatch.setattr(trial, "Rounding", Counted)
    least_damage(network_file, network, [WIDE, NARROW], PROBES, work, nothing)
    assert measured == [2]
