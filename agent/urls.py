"""URLs as users type them: split, and shown without their secrets."""

from __future__ import annotations

import re

# Up to the last @: people leave / ? and # in passwords as they are.
_USERINFO = re.compile(r"(?<=://)\S*@")
# And blanks: then to the last @ before another URL, unless the host has ended before the blank.
_USERINFO_WITH_BLANKS = re.compile(r"(?<=://)[^\s/:]*[: \t](?:(?!://)[^\n])*@")
_KEYS = (
    "pass|password|passwd|pwd|token|access_token|key|secret|auth|user|username|usr|loginuse|loginpas"
    "|api_?key|sid|signature|authorization|session"
)
_IN_QUERY = re.compile(rf"(?i)([?&;](?:{_KEYS})=)[^&#\s]*")
# Some cameras want it in the path: /user=admin_password=secret_channel=1_stream=0.sdp
_IN_PATH = re.compile(rf"(?i)([/_](?:{_KEYS})=)(?:(?!_[a-z]+=)[^&/?\s])*")

# Properties of GStreamer elements: rtspsrc user-pw="two words", souphttpsrc cookies=... and their like.
_IN_PIPELINE = re.compile(
    r"""(?i)\b((?:(?:user|proxy)-(?:pw|id)|extra-headers|cookies)\s*=\s*)"""
    r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s!])+"""
)


def redact(text: str) -> str:
    """Return `text` with the user, password and secret values of every URL in it replaced by `***`."""
    for secret in (_IN_QUERY, _IN_PATH, _IN_PIPELINE):
        text = secret.sub(r"\1***", text)
    return _USERINFO_WITH_BLANKS.sub("***@", _USERINFO.sub("***@", text))


def scheme(url: str) -> str:
    """Return the lower-case scheme of `url`, or "" for a plain path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""
