"""The page of a comparison: `compare.html`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.report.page import render
from calibration.report.samples import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration.report.samples import Sample


def compare_page(
    found: object, heads: Sequence[str], rows: Sequence[Sequence[str]], samples: Sequence[Sample]
) -> bytes:
    """Return the page of the comparison `found` with its table. Raises InputMissing without OpenCV."""
    shown = [show(sample) for sample in samples]
    return render("compare.html", found=found, heads=heads, rows=rows, samples=shown)
