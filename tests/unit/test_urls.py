"""Secrets in URLs are never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.urls import redact, scheme


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pw@cam/stream", "rtsp://***@cam/stream"),
        ("rtsp://user:p/w?#@cam/stream", "rtsp://***@cam/stream"),
        ("mqtt://broker:1883", "mqtt://broker:1883"),
        ("http://cam/video?user=admin&pwd=secret&res=hd", "http://cam/video?user=***&pwd=***&res=hd"),
        ("http://cam/v?loginuse=admin&loginpas=secret", "http://cam/v?loginuse=***&loginpas=***"),
        ("rtsp://cam/user=admin_password=tlJ_wpb_channel=1", "rtsp://cam/user=***_password=***_channel=1"),
        ("can't open rtsp://u:secret@cam: refused", "can't open rtsp://***@cam: refused"),
        ("gstreamer:rtspsrc user-id=me user-pw=s3 ! x", "gstreamer:rtspsrc user-id=*** user-pw=*** ! x"),
        ("rtspsrc user-pw=\"two words\" proxy-pw = 'a b' ! x", "rtspsrc user-pw=*** proxy-pw = *** ! x"),
        ("a plain text with mail@example.org", "a plain text with mail@example.org"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    """Logins go wherever cameras want them; the rest of the text stays."""
    assert redact(url) == shown


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4))
def test_no_password_survives(password: str) -> None:
    """Whatever a password is made of, it is not shown."""
    assert f":{password}@" not in redact(f"rtsp://user:{password}@camera/stream")


def test_schemes() -> None:
    """A scheme is what stands before ://, in lower case."""
    assert (scheme("RTSP://cam"), scheme("clip.mp4"), scheme("C:clip")) == ("rtsp", "", "")
