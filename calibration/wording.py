"""Words of tables and pages."""

from __future__ import annotations

_FIGURES = {
    "top1_agreement": "top-1 agreement",
    "agreement_ap50": "agreement (AP50)",
    "top1": "top-1",
    "map": "mAP",
    "map50": "mAP50",
    "f1": "F1",
}


def counted(number: int, noun: str) -> str:
    """Return "1 clip", "2 clips"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def figure_name(metric: str) -> str:
    """Return a figure's name for readers."""
    return _FIGURES.get(metric, metric)
