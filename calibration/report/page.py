"""Pages: one self-contained HTML file from a template."""

from __future__ import annotations

import math
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.wording import counted, figure_name


def render(template: str, **values: object) -> bytes:
    """Return the page that `template` of this package makes of `values`; everything is escaped."""
    return _templates().get_template(template).render(values).encode()


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("calibration.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "percent": percent,
        "megabytes": megabytes,
        "counted": counted,
        "figure": figure_name,
    }
    return templates


def percent(share: float) -> str:
    """Return a share 0..1 as text in percent; a share that is no number as a dash."""
    return "–" if math.isnan(share) else f"{share * 100:.1f} %"


def megabytes(size_bytes: int) -> str:
    """Return a size in MB (10^6 bytes)."""
    return f"{size_bytes / 1e6:.2f} MB"
