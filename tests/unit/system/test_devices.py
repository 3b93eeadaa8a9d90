"""Device files in trees as boards have them, and the drop-in made of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.hardware import Board
from agent.system import devices
from agent.system.devices import Devices, drop_in, read_devices

PC = Board(kind="pc", name="PC", tier="supported", tier_reason="")
PI = Board(kind="raspberry-pi", name="Raspberry Pi 5", tier="supported", tier_reason="")
JETSON = Board(kind="jetson", name="Jetson Orin Nano 8 GB", tier="supported", tier_reason="")


@pytest.fixture
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take plain files, which anybody can make, for devices."""
    monkeypatch.setattr(devices, "_is_device", Path.is_file)


def tree(root: Path, *names: str) -> Path:
    """Make empty files below `root`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.usefixtures("any_device")
def test_a_jetson(tmp_path: Path) -> None:
    """What is below /dev/nv*, directories too, the render node and the camera daemon's socket; no disk."""
    names = (
        "nvmap",
        "nvhost-ctrl-gpu",
        "nvgpu/igpu0/ctrl",
        "host1x-fence",
        "dri/renderD128",
        "dri/card0",
        "video0",
    )
    disks = ("nvme0", "nvme0n1", "nvram")
    root = tree(tmp_path, *(f"dev/{name}" for name in (*names, *disks)), "tmp/argus_socket")
    found = read_devices(root)
    assert found == Devices(
        nvidia=("/dev/host1x-fence", "/dev/nvgpu/igpu0/ctrl", "/dev/nvhost-ctrl-gpu", "/dev/nvmap"),
        render=("/dev/dri/renderD128",),
        argus=True,
    )
    lines = drop_in(JETSON, found).splitlines()
    assert lines[:4] == ["[Unit]", "Wants=nvargus-daemon.service", "After=nvargus-daemon.service", ""]
    assert {"DeviceAllow=/dev/nvgpu/igpu0/ctrl rw", "MemoryDenyWriteExecute=no", "PrivateTmp=no"} <= set(
        lines
    )
    assert not [line for line in lines if "nvme" in line or "card0" in line]


def test_a_raspberry_pi() -> None:
    """Cameras by libcamera, and the firmware's mailbox; the sandbox stays whole."""
    lines = [line for line in drop_in(PI, Devices()).splitlines() if not line.startswith("#")]
    assert lines == [
        "[Service]",
        "DeviceAllow=char-media rw",
        "DeviceAllow=char-dma_heap rw",
        "DeviceAllow=/dev/vcio rw",
    ]


def test_nothing_to_add() -> None:
    """A PC without a GPU has no drop-in."""
    assert drop_in(PC, Devices()) == ""


def test_an_empty_tree(tmp_path: Path) -> None:
    """No /dev at all, as in an image that is not running."""
    assert read_devices(tmp_path) == Devices()


def test_only_character_devices_count(tmp_path: Path) -> None:
    """A file, a link and a disk that are called like a device are none."""
    root = tree(tmp_path, "dev/nvfile")
    (root / "dev/nvlink").symlink_to("/dev/null")
    (root / "dev/nvloop").symlink_to(".")
    assert read_devices(root).nvidia == ()
    if os.geteuid():
        pytest.skip("making device files needs root")
    os.mknod(root / "dev/nvdisk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.mknod(root / "dev/nvmap", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert read_devices(root).nvidia == ("/dev/nvmap",)
