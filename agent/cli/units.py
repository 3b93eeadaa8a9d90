"""Values with a unit on the command line, as callbacks of click's options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*")
_TIMES_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_SIZES_BYTES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


def seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:  # noqa: ARG001 - click's
    """Return the seconds of a time above 0 like 30s, 10m, 24h or 7d. Raises BadParameter."""
    if found := _parsed(value, _TIMES_S):
        return found
    raise click.BadParameter(f"{value!r} is no time: write it like 30s, 10m, 24h or 7d.")


def size_bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:  # noqa: ARG001 - click's
    """Return the bytes of a size above 0 like 500MB or 2GB, decimal. Raises BadParameter."""
    if found := int(_parsed(value, _SIZES_BYTES)):
        return found
    raise click.BadParameter(f"{value!r} is no size: write it like 500MB or 2GB.")


def _parsed(text: str, units: Mapping[str, float]) -> float:
    """Return the value of `text`, 0 for what is none."""
    match = _NUMBER.fullmatch(text)
    return float(match[1]) * units.get(match[2].lower(), 0.0) if match else 0.0
