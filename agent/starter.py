"""Where starter model, sample clip and the service's files lie: in a checkout, else where the wheel put them."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.errors import InputMissing

_CHECKOUT = Path(__file__).resolve().parents[1]
_SHARE = Path("share/edge-agent")

SHIPPED = {
    "coco-centernet-320": "7a51e22b42e476711af98a207734d4353b9a66c188ec97e1c846ded711bfbe93",
    "person-ssdlite-300": "aaef7bdc822cb947a6aa53a83cd836936ebd1901e9c425b7f50f0bdf41bcb91a",
}
"""The bundles in `models/` that belong to this package, each with the sha256 of its model.toml.

They are the models that need no signature. After building one anew put in what tests/unit/test_models.py tells;
one that is added also needs a line in pyproject.toml's data-files.
"""
STARTER, PEOPLE = "coco-centernet-320", "person-ssdlite-300"
"""What runs where no model is named: 80 labels; and a network for people alone."""


def starter_bundle() -> Path:
    """Return the directory of the starter model bundle. Raises InputMissing."""
    return shipped_bundle(STARTER)


def shipped_bundle(name: str) -> Path:
    """Return the directory of the bundle `name` of `SHIPPED`. Raises InputMissing."""
    return _first(f"the model {name}", *_places(name))


def is_shipped(path: Path) -> bool:
    """Tell whether the directory `path` is where a model of this package belongs."""
    return any(path.resolve() == place.resolve() for name in SHIPPED for place in _places(name))


def sample_clip() -> Path:
    """Return the sample clip: 20 s, 200 frames. Raises InputMissing."""
    installed = Path(sys.prefix) / _SHARE / "demo/sample.mp4"
    return _first("the sample clip", _CHECKOUT / "tests/data/sample/sample.mp4", installed)


def service_files() -> Path:
    """Return the directory of what `systemd/` holds. Raises InputMissing."""
    return _first("the service's files", _CHECKOUT / "systemd", Path(sys.prefix) / _SHARE / "systemd")


def _places(name: str) -> tuple[Path, Path]:
    bundle = Path("models") / name
    return _CHECKOUT / bundle, Path(sys.prefix) / _SHARE / bundle


def _first(what: str, *places: Path) -> Path:
    for place in places:
        if place.exists():
            return place
    raise InputMissing(
        f"{what} is in none of its places",
        seen=", ".join(map(str, places)),
        fix="install the edge-agent wheel, or work in a complete checkout",
    )
