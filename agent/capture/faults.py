"""What a source that can't be opened or read means for the user: FFmpeg's errors as AgentErrors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.error

from agent.errors import AgentError, BadData, InputMissing, NotPermitted, ServiceAway
from agent.urls import redact

if TYPE_CHECKING:
    from av.error import FFmpegError

NOT_FOUND = (av.error.FileNotFoundError, av.error.HTTPNotFoundError)
REFUSED_LOGIN = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)
FIX_FILE = "give a video file that ffprobe can read"
FIX_LOGIN = "give the right user and password, as username and password_file or in the URL"
FIX_NETWORK = "check the address, the network and that the camera is on"


def explain(error: FFmpegError, url: str, *, waited_s: float, limit_s: float) -> AgentError:
    """Return what `error`, met after `waited_s` of at most `limit_s`, means for `url`.

    Network: 401 and 403 are NotPermitted, 404 is InputMissing (the server answers, the path is wrong), every
    other is ServiceAway, but for HTTP content that is no video: BadData. FFmpeg says "Invalid data" for an
    RTSP server that is silent. Files: InputMissing, NotPermitted, else BadData.
    """
    network = "://" in url and not url.lower().startswith("file:")
    seen = redact(url)
    if isinstance(error, REFUSED_LOGIN):
        return NotPermitted("login refused by the camera", seen=f"{seen} ({_reason(error)})", fix=FIX_LOGIN)
    if isinstance(error, NOT_FOUND) and network:
        return InputMissing("the server does not know this path", seen=seen, fix="check the path in the URL")
    if isinstance(error, NOT_FOUND):
        return no_such_file(url)
    if isinstance(error, av.error.PermissionError):
        return no_permission(url)
    if network:
        return _network(error, url, timed_out=isinstance(error, av.error.ExitError) or waited_s >= limit_s)
    return BadData("not a playable video", seen=f"{seen} ({_reason(error)})", fix=FIX_FILE)


def silent(url: str, limit_s: float) -> ServiceAway:
    """Return the error for a server that says nothing."""
    return ServiceAway(f"no answer within {limit_s:g} s", seen=redact(url), fix=FIX_NETWORK)


def closed(url: str) -> ServiceAway:
    """Return the error for a source that was closed while it was being opened."""
    return ServiceAway("closed while opening", seen=redact(url))


def no_such_file(url: str) -> InputMissing:
    """Return the error for a file that is not there."""
    return InputMissing("no such file", seen=redact(url), fix="check the path")


def no_permission(url: str) -> NotPermitted:
    """Return the error for a file that may not be read."""
    return NotPermitted("not allowed to read", seen=redact(url), fix="check its owner and mode")


def _network(error: FFmpegError, url: str, *, timed_out: bool) -> AgentError:
    if timed_out:
        return ServiceAway("no answer in time", seen=redact(url), fix=FIX_NETWORK)
    if isinstance(error, av.error.InvalidDataError) and url.lower().startswith("http"):
        return BadData("what the server sends is not a playable video", seen=redact(url), fix="check the URL")
    if isinstance(error, av.error.ConnectionRefusedError):
        return ServiceAway("connection refused", seen=redact(url), fix="check host and port")
    return ServiceAway("can't connect", seen=f"{redact(url)} ({_reason(error)})", fix=FIX_NETWORK)


def _reason(error: FFmpegError) -> str:
    return error.strerror or type(error).__name__
