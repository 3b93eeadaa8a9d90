"""Zones and masks: the foot of a box decides."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.zones import Masks, Zones, inside

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
HOOK = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.6, 1.0), (0.6, 0.3), (0.0, 0.3))


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    """Return rows as float32 (n, 4)."""
    return np.array(rows, np.float32).reshape(-1, 4)


def test_the_foot_decides() -> None:
    """A box mostly in the zone whose foot is outside is outside, and the other way round."""
    zone = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))
    names = Zones([("yard", zone, ())]).names(boxes((0.1, 0.0, 0.2, 0.6), (0.1, 0.1, 0.2, 0.4)), ["a", "a"])
    assert names == [("yard",), ()]


def test_what_the_frame_cuts_off_is_inside() -> None:
    """A foot on the frame's very edge is in a zone that ends there."""
    names = Zones([("all", ((0, 0), (1, 0), (1, 1), (0, 1)), ())]).names(boxes((0.9, 0.5, 1.1, 1.0)), ["a"])
    assert names == [("all",)]


def test_labels_and_order() -> None:
    """Zones are named in the order of the settings, and only for their labels."""
    zones = Zones([("b", LEFT, ("dog",)), ("a", LEFT, ()), ("c", LEFT, ())])
    assert zones.names(boxes(*[(0.1, 0.1, 0.2, 0.2)] * 2), ["cat", "dog"]) == [("a", "c"), ("b", "a", "c")]
    assert zones.names(boxes(), []) == []


def test_a_concave_polygon() -> None:
    """The inner side of a hook is outside."""
    points = np.array([[0.1, 0.1], [0.8, 0.8], [0.3, 0.6]], np.float32)
    assert inside(points, HOOK).tolist() == [True, True, False]


@given(st.floats(0, 1, exclude_max=True, width=32), st.floats(0, 1, exclude_max=True, width=32))
def test_neighbours_share_no_point_and_leave_none_out(x: float, y: float) -> None:
    """A point of the frame is in exactly one of two polygons that divide it."""
    point = np.array([[x, y]], np.float32)
    upper = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.7), (0.0, 0.2))
    lower = ((0.0, 0.2), (1.0, 0.7), (1.0, 1.0), (0.0, 1.0))
    assert inside(point, upper)[0] != inside(point, lower)[0]


def test_masks_drop_what_stands_in_them() -> None:
    """Only boxes whose foot is in no mask are kept."""
    rows = boxes((0.1, 0.1, 0.2, 0.2), (0.7, 0.1, 0.8, 0.2))
    assert Masks([LEFT]).keep(rows).tolist() == [False, True]
    assert Masks([]).keep(rows).tolist() == [True, True]
    assert Masks([LEFT]).keep(boxes()).tolist() == []
