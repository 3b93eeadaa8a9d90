"""The page that people read: `report.html`, one self-contained file, beside `report.json`."""

from __future__ import annotations

from calibration.report.samples import Sample
from calibration.report.writing import write_report

__all__ = ["Sample", "write_report"]
