"""Checks that the structs share. Each raises BadConfig with `key`: the struct's section, a dot, the field."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from agent.errors import BadConfig
from agent.urls import redact, scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

LABEL_CHARS = 64
MIN_AREA = 1e-9
URL_SCHEMES = ("rtsp", "rtsps", "http", "https", "file")
YEAR_S = 31_536_000.0
Polygon = tuple[tuple[float, float], ...]


def check_above_zero(key: str, value: float, most: float) -> None:
    """Refuse what is not above 0 and up to `most`; NaN too."""
    if not 0 < value <= most:
        raise BadConfig(key, seen=value, fix=f"must be above 0, up to {most:g}")


def check_between(key: str, value: float, least: float, most: float) -> None:
    """Refuse what is not within `least` and `most`; NaN too."""
    if not least <= value <= most:
        raise BadConfig(key, seen=value, fix=f"must be {least:.10g} to {most:.10g}")


def check_labels(key: str, labels: Sequence[str]) -> None:
    """Refuse what no model calls a class. Which labels it has is known once it is loaded."""
    for label in labels:
        if not 0 < len(label) <= LABEL_CHARS or not label.isprintable():
            shown = repr(label[:LABEL_CHARS])
            raise BadConfig(key, seen=shown, fix=f"a label of the model, 1 to {LABEL_CHARS} characters")


def check_polygon(key: str, polygon: Polygon) -> None:
    """Refuse fewer than three corners, corners outside 0..1, and what has no area."""
    if len(polygon) < 3:
        raise BadConfig(key, seen=f"{len(polygon)} corners", fix="give three corners or more")
    for corner in polygon:
        if not all(0 <= c <= 1 for c in corner):
            seen = "corner " + ", ".join(f"{c:g}" for c in corner)
            raise BadConfig(key, seen=seen, fix="corners are fractions 0..1 of the frame")
    following = (*polygon[1:], polygon[0])
    twice_area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(polygon, following, strict=True))
    if abs(twice_area) < MIN_AREA:
        raise BadConfig(key, seen="no area", fix="give corners that enclose something")


def check_path(key: str, path: str | None) -> None:
    """Refuse a path that is empty, or a URL."""
    if path is not None and (not path.strip() or "://" in path):
        raise BadConfig(key, seen=repr(redact(path)), fix="give the path of a file")


def is_key_line(text: str) -> bool:
    """Tell a public key of minisign, base64 of 42 bytes that begin with "Ed", from a path."""
    return re.fullmatch(r"RW[A-Za-z0-9+/]{54}", text) is not None


def check_source(key: str, source: str) -> None:
    """Refuse what names no source, a URL with blanks or that none reads, and a login that was only shown."""
    if not source.strip():
        raise BadConfig(key, seen=repr(source), fix="give a path or URL")
    kind = scheme(source)
    if kind and kind not in URL_SCHEMES:
        close = get_close_matches(kind, URL_SCHEMES, n=1)
        fix = f'did you mean "{close[0]}://"?' if close else f"use a path or one of {', '.join(URL_SCHEMES)}"
        raise BadConfig(key, seen=redact(source), fix=fix)
    if kind and kind != "file" and re.search(r"\s", source):
        fix = "write a blank as %20, or give the login as username and password_file"
        raise BadConfig(key, seen=redact(re.sub(r"\s", "%20", source)), fix=fix)
    if "://***@" in source:
        fix = "*** stands where a login was hidden: put in the real one, or username and password_file"
        raise BadConfig(key, seen=source, fix=fix)


def check_login(section: str, username: str | None, password_file: str | None) -> None:
    """Refuse an empty name, and a password without one."""
    if username is not None and (not username.strip() or not username.isprintable()):
        raise BadConfig(f"{section}.username", seen=repr(username), fix="give a name, or leave it out")
    if password_file is not None and username is None:
        raise BadConfig(f"{section}.username", seen="none", fix="a password_file needs a username")
    check_path(f"{section}.password_file", password_file)
