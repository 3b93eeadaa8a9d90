"""A double of Picamera2, as far as agent.capture.picamera uses it: jobs, and requests that must be released.

It follows picamera2/picamera2.py, request.py and job.py: a request comes with one reference, `release()`
gives it back, a second one raises; a job's result is a Future; `stop()` waits for the jobs before it.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import numpy as np

SIZE, STRIDE = (64, 48), 128
Y, U, V = 50, 100, 150


class RequestDouble:
    """A completed request with a YUV420 picture whose rows are padded."""

    def __init__(self, owner: CameraDouble) -> None:
        self._owner = owner
        self.references = 1
        owner.handed_out.append(self)

    def make_buffer(self, name: str) -> Any:
        """Return the bytes of the stream (n,)."""
        assert name == "main"
        assert self.references == 1
        if self._owner.broken:
            return np.zeros(10, np.uint8)
        luma = np.full(STRIDE * SIZE[1], Y, np.uint8)
        chroma = [np.full(STRIDE // 2 * SIZE[1] // 2, value, np.uint8) for value in (U, V)]
        return np.concatenate([luma, *chroma])

    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata; SensorTimestamp is in nanoseconds of CLOCK_BOOTTIME."""
        return {"SensorTimestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 20_000_000}

    def release(self) -> None:
        """Give the request back."""
        if self.references == 0:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        self.references -= 1


class JobDouble:
    """A capture that was asked for; it is done at once unless the camera is silent."""

    def __init__(self, camera: CameraDouble) -> None:
        self.future: Future[RequestDouble] = Future()
        if not camera.silent:
            self.future.set_result(RequestDouble(camera))

    def get_result(self, timeout: float | None = None) -> RequestDouble:
        """Return the request. Raises TimeoutError."""
        time.sleep(0.001)
        return self.future.result(timeout=timeout)


class CameraDouble:
    """Stands in for the class Picamera2; `made` holds every one."""

    made: list[CameraDouble]
    info: list[dict[str, Any]]
    refuse: str = ""

    def __init__(self, number: int) -> None:
        if self.refuse:
            raise RuntimeError(self.refuse)
        self.number = number
        self.handed_out: list[RequestDouble] = []
        self.jobs: list[JobDouble] = []
        self.silent = self.broken = False
        self.state = "open"
        type(self).made.append(self)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        """Return one dictionary for each camera."""
        return cls.info

    def create_video_configuration(self, **settings: Any) -> dict[str, Any]:
        """Return a configuration of the settings."""
        return settings

    def configure(self, configuration: dict[str, Any]) -> None:
        """Keep the configuration; the size is the double's own, as the hardware may change it."""
        assert configuration["main"]["format"] == "YUV420"
        self.configuration = configuration

    def camera_configuration(self) -> dict[str, Any]:
        """Return what the hardware made of the configuration."""
        return {"main": {"size": SIZE, "stride": STRIDE, "format": "YUV420"}}

    def start(self) -> None:
        """Start the camera."""
        self.state = "started"

    def capture_request(self, wait: bool | None = None) -> JobDouble:
        """Ask for the next request."""
        assert wait is False
        assert self.state == "started"
        self.jobs.append(JobDouble(self))
        return self.jobs[-1]

    def cancel_all_and_flush(self) -> None:
        """Cancel the captures that are not done."""
        for job in self.jobs:
            job.future.cancel()

    def stop(self) -> None:
        """Stop; for ever in front of a capture that is not done."""
        assert all(job.future.done() for job in self.jobs), "stop() would hang"
        self.state = "stopped"

    def close(self) -> None:
        """Release the camera."""
        self.state = "closed"
