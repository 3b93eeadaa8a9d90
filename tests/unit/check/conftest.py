"""A camera as configured and as seen, to be changed by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from agent.capture import SourceStats
from agent.check.camera import Observation
from agent.check.target import CameraTarget
from agent.messages import Frame


@pytest.fixture
def camera():
    """Return a function that makes the target of a camera."""

    def make(url: str = "rtsp://camera/live", **changes: Any) -> CameraTarget:
        return CameraTarget(**{"name": "yard", "url": url, "model": Path("model"), **changes})

    return make


@pytest.fixture
def observation():
    """Return a function that makes what was seen of a camera: 640x360 H.264 at 25 fps, in good health."""

    def make(size: tuple[int, int] | None = (640, 360), **changes: Any) -> Observation:
        frame = None if size is None else Frame("yard", 0, 0.0, 0.0, 0.0, av.VideoFrame(*size, "yuv420p"))
        facts: dict[str, Any] = {
            "live": True,
            "codec": "h264",
            "frame": frame,
            "frames": 75,
            "watched_s": 3.0,
            "declared_hz": 25.0,
            "measured_hz": 25.0,
            "gop_s": 1.0,
            "key_frames_only": False,
            "decode_ms": 2.0,
            "stopped": False,
            "stats": SourceStats(),
        }
        return Observation(**{**facts, **changes})

    return make
