"""URLs as users type them: split, and shown without their secrets."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY_KEYS = "pass|password|passwd|pwd|token|key|secret|auth|user|username|usr"
_SECRET_QUERY = re.compile(rf"(?i)([?&](?:{_QUERY_KEYS})=)[^&#\s]*")


def redact(text: str) -> str:
    """Return `text` with the user, password and secret query values of every URL in it replaced by `***`."""
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub("***@", text))


def scheme(url: str) -> str:
    """Return the lower-case scheme of `url`, or "" for a plain path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""
