"""Device files of the configured cameras, in trees as boards have them; and the clock."""

from __future__ import annotations

import os
import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agent.check import clock, devices


@pytest.fixture
def any_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take plain files, which anybody can make, for video devices."""
    monkeypatch.setattr(devices, "_is_video", lambda _: True)


def tree(root: Path, *names: str) -> Path:
    """Make empty files below `root`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def but_root(rows) -> list:
    """Return `rows` without the one that says that this is root."""
    return [row for row in rows if row.what != "devices"]


def test_network_cameras_need_no_device(camera, tmp_path: Path) -> None:
    """RTSP and files: one row that says so."""
    rows = devices.check([camera(), camera("clip.mp4")], root=tmp_path)
    assert [row.state for row in rows] == ["skipped"]


@pytest.mark.usefixtures("any_video")
def test_a_usb_camera_that_is_there(camera, tmp_path: Path) -> None:
    """The path is read without its options."""
    root = tree(tmp_path, "dev/video0")
    (row,) = but_root(devices.check([camera("v4l2:/dev/video0?size=1280x720&fps=30")], root=root))
    assert (row.what, row.state) == ("camera yard device", "ok")


def test_a_usb_camera_that_is_not_there(camera, tmp_path: Path) -> None:
    """The fault names those that are."""
    root = tree(tmp_path, "dev/video2", "dev/null")
    (row,) = but_root(devices.check([camera("v4l2:/dev/video0")], root=root))
    assert row.state == "fault"
    assert "attached: " in row.seen
    assert "video2" in row.seen


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd", "/etc"])
def test_what_is_no_video_device_is_no_camera(camera, path: str) -> None:
    """Another character device, a file, a directory."""
    (row,) = but_root(devices.check([camera(f"v4l2:{path}")]))
    assert (row.state, row.seen) == ("fault", f"{path} is no video device")


@pytest.mark.parametrize(("major", "video"), [(81, True), (1, False)])
def test_a_video_device_has_major_81(tmp_path: Path, major: int, video: bool) -> None:
    """By a node made for the test."""
    try:
        os.mknod(tmp_path / "node", 0o600 | stat.S_IFCHR, os.makedev(major, 0))
    except OSError:
        pytest.skip("this user may not make devices")
    assert devices._is_video((tmp_path / "node").stat()) is video


def test_a_pi_without_its_ribbon_cable(camera, tmp_path: Path) -> None:
    """No media device: a fault; with all there: good."""
    (row,) = but_root(devices.check([camera("picamera:0")], root=tree(tmp_path, "dev/dma_heap/system")))
    assert row.state == "fault"
    assert "cable" in row.fix
    (row,) = but_root(devices.check([camera("picamera:0")], root=tree(tmp_path, "dev/media0")))
    assert row.state == "ok"


@pytest.mark.usefixtures("any_video")
def test_a_device_of_another_group_is_told(camera, tmp_path: Path) -> None:
    """The fix is the group to join; for the firmware's mailbox it is a warning."""
    root = tree(tmp_path, "dev/video0", "dev/vcio", "dev/nvmap")
    for name in ("video0", "vcio", "nvmap"):
        (root / "dev" / name).chmod(0)
    if os.access(root / "dev" / "video0", os.R_OK):
        pytest.skip("this user may open everything")
    for url, states in (("v4l2:/dev/video0", ["fault"]), ("csi:0", ["fault", "fault"])):
        rows = devices.check([camera(url)], root=root)
        rows = [row for row in rows if "runs as root" not in row.seen]
        assert [row.state for row in rows] == [*states, "warning"]
        assert all("group" in row.fix for row in rows)


@pytest.mark.parametrize(
    ("pipeline", "states"),
    [
        ("rtspsrc location=rtsp://cam/nvdec ! rtph264depay ! avdec_h264 ! videoconvert", []),
        ("videotestsrc name=nvarguscamerasrc ! v4l2sink", []),
        ("nvarguscamerasrc sensor-id=0 ! nvvidconv", ["warning", "warning"]),
        ("rtspsrc location=x ! rtph264depay ! nvv4l2decoder ! nvvidconv", ["warning", "warning"]),
        ("rtspsrc location=x ! rtph264depay ! vaapih264dec", ["warning"]),
        ("rtspsrc location=x ! rtph264depay !v4l2h264dec! videoconvert", ["warning"]),
    ],
)
def test_only_hardware_elements_need_a_device(
    camera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str, states: list[str]
) -> None:
    """Where nothing may be opened: a warning for those that would, and nothing for all other pipelines."""
    root = tree(tmp_path, "dev/dri/renderD128", "dev/nvmap", "dev/video10")
    monkeypatch.setattr(devices, "_usable", lambda _: False)
    rows = but_root(devices.check([camera(f"gstreamer:{pipeline}")], root=root))
    assert [row.state for row in rows] == states
    assert but_root(devices.check([camera(f"gstreamer:{pipeline}")], root=tmp_path / "none")) == []


@pytest.mark.usefixtures("any_video")
@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_root_is_told_that_it_proves_nothing(camera, tmp_path: Path) -> None:
    """What root may open the service's user need not."""
    rows = devices.check([camera("v4l2:/dev/video0")], root=tree(tmp_path, "dev/video0"))
    assert [row.state for row in rows] == ["ok", "warning"]
    assert "sudo -u edge-agent" in rows[1].fix


@pytest.mark.parametrize(("synced", "state"), [(True, "ok"), (False, "warning")])
def test_a_clock(synced: bool, state: str) -> None:
    """One that nobody sets is a warning with the command; the time is shown."""
    row = clock.judge(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), synced=synced)
    assert (row.state, bool(row.fix)) == (state, not synced)
    assert row.seen.startswith("2026-01-02 03:04:05 UTC")


@pytest.mark.parametrize(("has", "rows"), [(1, 1), (0, 2), (None, 2)])
def test_a_python_that_waits_by_the_clock(has: object, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One built without sem_clockwait is told of."""
    monkeypatch.setattr(clock.sysconfig, "get_config_var", lambda _name: has)
    assert len(clock.check()) == rows
