"""What is attached, on trees of files as a machine has them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture import attached, deviceurl
from agent.capture.videodev import Mode
from tests.unit.capture.picamera_double import CameraDouble


def device(root: Path, number: int, name: str, *, node: bool) -> None:
    """Add a video device to a tree; its node is a plain file, which answers no ioctl."""
    folder = root / f"sys/class/video4linux/video{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    if node:
        (root / "dev").mkdir(exist_ok=True)
        (root / f"dev/video{number}").write_text("")


def test_nothing(tmp_path: Path) -> None:
    """A machine without any of it."""
    assert attached.find_v4l2(tmp_path) == attached.find_csi(tmp_path) == []


def test_what_does_not_capture_is_left_out(tmp_path: Path) -> None:
    """Nodes that answer no V4L2 ioctl are no cameras; one without a node is told, by its stable name."""
    device(tmp_path, 0, "HD Webcam", node=False)
    device(tmp_path, 1, "HD Webcam: metadata", node=True)
    links = tmp_path / "dev/v4l/by-id"
    links.mkdir(parents=True)
    (links / "usb-HD_Webcam-video-index0").symlink_to("../../video0")
    (camera,) = attached.find_v4l2(tmp_path)
    assert camera.name == "HD Webcam"
    assert camera.device == "/dev/v4l/by-id/usb-HD_Webcam-video-index0"
    assert camera.source == ""
    assert "no such camera" in camera.problem


def test_a_jetson_with_two_sensors(tmp_path: Path) -> None:
    """Its CSI cameras are read by nvarguscamerasrc, whatever V4L2 shows; a Raspberry Pi has none of these."""
    device(tmp_path, 0, "vi-output, imx219 9-0010", node=True)
    device(tmp_path, 1, "vi-output, imx219 10-0010", node=True)
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    assert [(c.name, c.source) for c in attached.find_csi(tmp_path)] == [
        ("imx219 9-0010", "csi:0"),
        ("imx219 10-0010", "csi:1"),
    ]
    (tree / "compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert attached.find_csi(tmp_path) == []


@pytest.mark.timeout(120)
def test_files_that_never_end_or_hang_are_no_obstacle(tmp_path: Path) -> None:
    """A FIFO in place of a name or of the device tree, and a name that goes on and on."""
    device(tmp_path, 0, "x" * 100_000, node=False)
    device(tmp_path, 1, "", node=False)
    (tmp_path / "sys/class/video4linux/video1/name").unlink()
    os.mkfifo(tmp_path / "sys/class/video4linux/video1/name")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    os.mkfifo(tmp_path / "proc/device-tree/compatible")
    long, fifo = attached.find_v4l2(tmp_path)
    assert (len(long.name), fifo.name) == (200, "video1")
    assert attached.find_csi(tmp_path) == []


def test_raspberry_pi_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that Picamera2 (a double) sees, without the USB ones; none where it is not installed."""

    class Two(CameraDouble):
        info = [{"Model": "imx708", "Id": "/base/a"}, {"Model": "webcam", "Id": "/base/usb@1"}]  # noqa: RUF012

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Two))  # type: ignore[arg-type]
    assert [(c.name, c.source) for c in attached.find_picamera()] == [("imx708", "picamera:0")]
    monkeypatch.setitem(sys.modules, "picamera2", None)
    assert attached.find_picamera() == []


RATES = (30.0, 15.0)


@pytest.mark.parametrize(
    ("modes", "query"),
    [
        ([], ""),
        ([Mode("MJPG", (1920, 1080), RATES), Mode("MJPG", (1280, 720), (60.0, 30.0))], "1280x720 30 mjpeg"),
        ([Mode("YUYV", (1280, 720), (10.0,)), Mode("YUYV", (640, 480), RATES)], "640x480 30 yuyv422"),
        ([Mode("YUYV", (1280, 720), (10.0,))], "1280x720 10 yuyv422"),
        ([Mode("MJPG", (640, 480), ()), Mode("YUYV", (640, 480), RATES)], "640x480 - mjpeg"),
        ([Mode("YUYV", (3840, 2160), (5.0,))], ""),
    ],
)
def test_what_is_proposed(modes: list[Mode], query: str) -> None:
    """720p at 30 or what comes nearest, not slower than 15 if that can be."""
    size, rate, name = query.split() if query else ("", "", "")
    fps = "" if rate == "-" else f"&fps={rate}"
    expected = f"?size={size}{fps}&format={name}" if query else ""
    assert attached.propose("/dev/video0", tuple(modes)) == f"v4l2:/dev/video0{expected}"


MODES = st.builds(
    Mode,
    st.sampled_from(["MJPG", "YUYV", "GREY"]),
    st.tuples(st.integers(16, 9999), st.integers(16, 9999)),
    st.lists(st.floats(0.1, 999.0), max_size=4).map(lambda rates: tuple(sorted(rates, reverse=True))),
)


@given(st.lists(MODES, max_size=8))
def test_what_is_proposed_can_be_read(modes: list[Mode]) -> None:
    """Whatever a device offers, the line parses and names a size that it has."""
    url = attached.propose("/dev/video0", tuple(modes))
    asked = deviceurl.parse(url, keys=("size", "fps", "format"))
    assert asked.size is None or asked.size in {mode.size for mode in modes}
