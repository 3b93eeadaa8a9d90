"""Where starter model, sample clip and the service's files lie: in a checkout, else where the wheel put them."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.errors import InputMissing

_CHECKOUT = Path(__file__).resolve().parents[1]
_SHARE = Path("share/edge-agent")


def starter_bundle() -> Path:
    """Return the directory of the starter model bundle. Raises InputMissing."""
    bundle = Path("models/person-ssdlite-300")
    return _first("the starter model", _CHECKOUT / bundle, Path(sys.prefix) / _SHARE / bundle)


def sample_clip() -> Path:
    """Return the sample clip: 20 s, 200 frames. Raises InputMissing."""
    installed = Path(sys.prefix) / _SHARE / "demo/sample.mp4"
    return _first("the sample clip", _CHECKOUT / "tests/data/sample/sample.mp4", installed)


def service_files() -> Path:
    """Return the directory of what `systemd/` holds. Raises InputMissing."""
    return _first("the service's files", _CHECKOUT / "systemd", Path(sys.prefix) / _SHARE / "systemd")


def _first(what: str, *places: Path) -> Path:
    for place in places:
        if place.exists():
            return place
    raise InputMissing(
        f"{what} is in none of its places",
        seen=", ".join(map(str, places)),
        fix="install the edge-agent wheel, or work in a complete checkout",
    )
