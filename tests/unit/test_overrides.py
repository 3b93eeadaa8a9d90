"""Settings that came while the agent ran: over the configuration, over restarts, and never in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.config import CameraConfig, Config, Sampling
from agent.errors import CannotCreate
from agent.overrides import NAME, Overrides, settings_of

if TYPE_CHECKING:
    from pathlib import Path

YARD = CameraConfig(name="yard", source="a.mp4")
DOOR = CameraConfig(name="door", source="b.mp4", sampling=Sampling(mode="uniform", hz=2))
CONFIG = Config(camera=(YARD, DOOR), sampling=Sampling(every_n=3))


def but(camera: CameraConfig, **changes: object) -> CameraConfig:
    return msgspec.structs.replace(camera, **changes)


def test_what_was_set_is_there_after_a_restart(tmp_path: Path) -> None:
    """Each camera for itself; what the configuration says is not kept."""
    one, slow = Overrides(tmp_path), Sampling(mode="uniform", hz=0.5)
    one.put(YARD, CONFIG, but(YARD, enabled=False))
    one.put(DOOR, CONFIG, but(DOOR, sampling=slow))
    yard, door = Overrides(tmp_path).over(CONFIG).camera
    assert (yard.enabled, yard.sampling) == (False, None)
    assert (door.enabled, door.sampling) == (True, slow)
    one.put(YARD, CONFIG, but(YARD, enabled=True, sampling=Sampling(every_n=3)))
    one.put(DOOR, CONFIG, DOOR)
    assert Overrides(tmp_path).over(CONFIG) == CONFIG
    assert msgspec.json.decode((tmp_path / NAME).read_bytes()) == {"schema": 1, "cameras": {}}


def test_a_camera_that_is_gone_is_told_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its settings wait for it: a configuration may be put back."""
    Overrides(tmp_path).put(YARD, CONFIG, but(YARD, enabled=False))
    without = msgspec.structs.replace(CONFIG, camera=(DOOR,))
    later = Overrides(tmp_path)
    assert later.over(without) == without
    later.tell(without)
    assert "kept for cameras that there are not: yard" in caplog.text
    assert not later.over(CONFIG).camera[0].enabled


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"\xff\x00",
        b"[" * 10_000,
        b'{"schema": 2, "cameras": {}}',
        b'{"schema": 1, "cameras": {"yard": {"enabled": "no"}}}',
        b'{"schema": 1, "cameras": {"yard": {"sampling": {"hz": -1}}}}',
    ],
)
def test_a_damaged_file_is_told_and_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: bytes
) -> None:
    """Cameras run as configured, and the next setting makes it whole."""
    (tmp_path / NAME).write_bytes(text)
    overrides = Overrides(tmp_path)
    assert overrides.over(CONFIG) == CONFIG
    assert "can't be read" in caplog.text
    overrides.put(YARD, CONFIG, but(YARD, enabled=False))
    assert not Overrides(tmp_path).over(CONFIG).camera[0].enabled


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path) -> None:
    """What can't be kept is not done either."""
    if os.geteuid() == 0:
        (tmp_path / "state").write_text("a file where a directory is needed")
    else:
        (tmp_path / "state").mkdir(mode=0o500)
    overrides = Overrides(tmp_path / "state")
    with pytest.raises(CannotCreate):
        overrides.put(YARD, CONFIG, but(YARD, enabled=False))
    assert overrides.over(CONFIG) == CONFIG


def test_without_a_folder_they_last_as_long_as_the_run() -> None:
    """One command leaves nothing behind."""
    overrides = Overrides(None)
    overrides.put(YARD, CONFIG, but(YARD, enabled=False))
    assert not overrides.over(CONFIG).camera[0].enabled


def test_what_is_told_is_what_is_in_force() -> None:
    """A camera without a sampling of its own has the device's."""
    assert settings_of(YARD, CONFIG).sampling.every_n == 3
    assert settings_of(DOOR, CONFIG).sampling.hz == 2
