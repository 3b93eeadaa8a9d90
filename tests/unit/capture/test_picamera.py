"""Raspberry Pi cameras, against a double of Picamera2 (see picamera_double.py): it can't run here."""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.capture import SourceStats, StreamOptions, deviceurl, open_source
from agent.capture.picamera import PicameraGrabber
from agent.errors import AgentError, InputMissing, ServiceAway, UsageError
from tests.unit.capture.picamera_double import SIZE, CameraDouble, U, V, Y

RIBBON = {"Model": "imx708", "Num": 0, "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a"}
USB = {"Model": "webcam", "Num": 1, "Id": "/base/axi/pcie@120000/rp1/usb@200000-1:1.0-046d:0825"}


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> type[CameraDouble]:
    """Return the double's class, with one camera of its own and a USB one, as the module picamera2."""

    class Fresh(CameraDouble):
        made: list[CameraDouble] = []  # noqa: RUF012 - new for each test
        info = [RIBBON, USB]  # noqa: RUF012

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Fresh))  # type: ignore[arg-type]
    return Fresh


def grabber(url: str = "picamera:0") -> PicameraGrabber:
    """Return the grabber of `url`."""
    return PicameraGrabber(deviceurl.parse(url), 0, SourceStats(), lambda: False)


def opened(url: str, **options: Any) -> Any:
    """Return the opened source."""
    settings = StreamOptions(backoff_first_s=0.01, backoff_max_s=0.05, **options)
    return closing(open_source(url, camera="front", pace="realtime", options=settings))


def test_frames_are_copied_and_every_request_goes_back(double: type[CameraDouble]) -> None:
    """The pixels without their padding, the sensor's time, and no request left with us."""
    with opened("picamera:0?size=64x48&fps=15") as source:
        frames = list(itertools.islice(source.frames(), 20))
    camera = double.made[0]
    assert len(camera.handed_out) >= 20
    assert [r.references for r in camera.handed_out] == [0] * len(camera.handed_out)
    assert camera.state == "closed"
    assert camera.configuration["main"]["size"] == (64, 48)
    assert camera.configuration["controls"] == {"FrameRate": 15.0}
    picture = frames[0].picture
    assert frames[0].size == SIZE
    assert picture.to_ndarray().shape == (72, 64)
    assert np.unique(picture.to_ndarray()[:48]).tolist() == [Y]
    assert np.unique(picture.to_ndarray()[48:]).tolist() == [U, V]


def test_the_sensors_time_is_on_the_monotonic_clock(double: type[CameraDouble]) -> None:
    """The double stamps its pictures 20 ms in the past, on CLOCK_BOOTTIME."""
    open_grabber = grabber()
    before_s = time.monotonic()
    grab = open_grabber.grab(1.0)
    assert grab is not None
    assert grab.captured_s is not None
    assert before_s - 0.02 <= grab.captured_s <= time.monotonic() - 0.02
    open_grabber.close()


def test_a_request_goes_back_when_its_pixels_are_no_picture(double: type[CameraDouble]) -> None:
    """A buffer that is too short is an error, and its request no leak."""
    open_grabber = grabber()
    double.made[0].broken = True
    with pytest.raises(AgentError, match="bytes missing"):
        open_grabber.grab(1.0)
    assert [r.references for r in double.made[0].handed_out] == [0]


def test_a_silent_camera_is_asked_once_and_closes(double: type[CameraDouble]) -> None:
    """Only one capture is open at a time, and closing does not wait for it."""
    open_grabber = grabber()
    camera = double.made[0]
    camera.silent = True
    assert open_grabber.grab(0.01) is None
    assert open_grabber.grab(0.01) is None
    assert len(camera.jobs) == 1
    open_grabber.close()
    assert camera.state == "closed"


def test_a_capture_done_while_closing_is_released(double: type[CameraDouble]) -> None:
    """The request that comes between the last grab and the end goes back too."""
    open_grabber = grabber()
    camera = double.made[0]
    camera.silent = True
    assert open_grabber.grab(0.01) is None
    camera.silent = False
    camera.jobs[0].future.set_result(camera.capture_request(wait=False).get_result())
    open_grabber.close()
    assert [r.references for r in camera.handed_out] == [0]


def test_a_camera_that_falls_silent_is_opened_again(double: type[CameraDouble]) -> None:
    """Frames go on from another Picamera2 object, and the stall is counted."""
    with opened("picamera:0", stall_timeout_s=1.0) as source:
        frames = source.frames()
        next(frames)
        double.made[0].silent = True
        while len(double.made) < 2:
            next(frames)
        next(frames)
        assert source.stats.stalls == 1
        assert source.stats.reconnects == 1
    assert [camera.state for camera in double.made] == ["closed", "closed"]


def test_no_camera(double: type[CameraDouble]) -> None:
    """One that is not there is named with how many are; USB cameras have another URL."""
    with pytest.raises(InputMissing, match=r"picamera:1, 1 found; check the ribbon cable"):
        opened("picamera:1")


def test_in_use(double: type[CameraDouble]) -> None:
    """Picamera2 says only that its start did not complete."""
    double.refuse = "Camera __init__ sequence did not complete."
    with pytest.raises(ServiceAway, match="maybe in use"):
        opened("picamera:0")


def test_picamera2_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fix is the system's package."""
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(ServiceAway, match=r"Picamera2 is missing.*apt install python3-picamera2"):
        opened("picamera:0")


@pytest.mark.parametrize("url", ["picamera:front", "picamera:", "picamera:0?format=mjpeg"])
def test_wrong_urls(url: str) -> None:
    """Told before anything is opened."""
    with pytest.raises(UsageError):
        opened(url)
