"""URLs of attached cameras, and which source a URL gets."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture import make_source
from agent.capture.deviceurl import DeviceUrl, parse
from agent.errors import UsageError

KEYS = ("size", "fps", "format")


def test_all_settings() -> None:
    """The example of the README."""
    url = "v4l2:/dev/video0?size=1280x720&fps=30&format=mjpeg"
    assert parse(url, keys=KEYS) == DeviceUrl("/dev/video0", (1280, 720), 30, "mjpeg")


def test_nothing_is_set() -> None:
    """What is not asked for is left to the camera; stable names are accepted."""
    path = "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0"
    assert parse(f"v4l2:{path}", keys=KEYS) == DeviceUrl(path)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("v4l2:", "no camera named: v4l2:; for example v4l2:/dev/video0"),
        ("v4l2:/dev/video0?size=big", "not a size: size=big"),
        ("v4l2:/dev/video0?size=", "not a size"),
        ("v4l2:/dev/video0?fps=0", "not a rate: fps=0"),
        ("v4l2:/dev/video0?fps=29.97", "a whole number"),
        ("v4l2:/dev/video0?rate=3", "unknown camera setting: rate in .*; known: size, fps, format"),
        ("csi:0?format=mjpeg", "known: size, fps$"),
        ("csi:left", "not a camera number: csi:left; 0 is the first"),
        ("gstreamer:", "no pipeline"),
        ("gopher://bob:secret@host/1", r"can't read this kind of URL: gopher://\*\*\*@host/1; use .*v4l2:"),
    ],
)
def test_wrong_urls(url: str, line: str) -> None:
    """Told before anything is opened: what, the value, the fix."""
    with pytest.raises(UsageError, match=line):
        make_source(url, camera="front", pace="realtime")


@given(st.text(max_size=30))
def test_any_text_is_a_source_or_a_usage_error(text: str) -> None:
    """No other exception, whatever is typed."""
    for url in (text, f"v4l2:{text}", f"v4l2:/dev/video0?{text}"):
        with contextlib.suppress(UsageError):
            make_source(url, camera="front", pace="realtime")


def test_a_path_with_a_colon_is_a_path() -> None:
    """Only known schemes and :// make a URL."""
    assert type(make_source("a:b.mp4", camera="front", pace="realtime")).__name__ == "StreamSource"


def test_a_source_loads_only_what_it_needs() -> None:
    """The modules of the other sources are not imported for a file."""
    code = (
        "import sys; from agent.capture import make_source;"
        "make_source('a.mp4', camera='c', pace='realtime');"
        "print([m for m in sys.modules if m.endswith(('gstreamer', 'picamera', 'v4l2'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
