"""FFmpeg's errors, as the user gets them."""

from __future__ import annotations

import errno

import av.error
import pytest

from agent.capture.faults import explain
from agent.errors import AgentError, BadData, InputMissing, NotPermitted, ServiceAway

RTSP = "rtsp://bob:secret@camera/1"
HTTP = "http://bob:secret@camera/1.mp4"
CASES = [
    (av.error.HTTPUnauthorizedError, RTSP, NotPermitted),
    (av.error.HTTPForbiddenError, HTTP, NotPermitted),
    (av.error.HTTPNotFoundError, RTSP, InputMissing),
    (av.error.HTTPServerError, HTTP, ServiceAway),
    (av.error.ConnectionRefusedError, RTSP, ServiceAway),
    (av.error.OSError, HTTP, ServiceAway),
    (av.error.ExitError, HTTP, ServiceAway),
    (av.error.InvalidDataError, RTSP, ServiceAway),
    (av.error.InvalidDataError, HTTP, BadData),
    (av.error.EOFError, HTTP, ServiceAway),
    (av.error.InvalidDataError, "a.mp4", BadData),
    (av.error.EOFError, "a.mp4", BadData),
    (av.error.FileNotFoundError, "a.mp4", InputMissing),
    (av.error.PermissionError, "file:///a.mp4", NotPermitted),
]


@pytest.mark.parametrize(("kind", "url", "expected"), CASES)
def test_every_error_has_its_class_and_no_secret(
    kind: type[av.FFmpegError], url: str, expected: type[AgentError]
) -> None:
    """One line with what, where and a fix; the exit code follows from the class; credentials are redacted."""
    error = explain(kind(errno.EIO, "Some reason", url), url, waited_s=0.1, limit_s=10.0)
    assert type(error) is expected
    assert error.fix
    assert "\n" not in str(error)
    assert "secret" not in str(error)


def test_invalid_data_after_the_time_limit_is_silence() -> None:
    """FFmpeg says "Invalid data" when an RTSP server accepts and then says nothing."""
    error = explain(av.error.InvalidDataError(1, "Invalid data", HTTP), HTTP, waited_s=10.0, limit_s=10.0)
    assert isinstance(error, ServiceAway)
    assert "no answer" in str(error)
