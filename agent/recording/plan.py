"""When to begin a clip: evenly over time, and when the light, the scene, or something in it changes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from agent.luma import changed_share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Blocks = NDArray[np.float32]

Light = Literal["dark", "dim", "bright"]
Why = Literal["first", "light", "scene", "motion", "regular"]
LIGHTS: tuple[Light, ...] = get_args(Light)
WHYS: tuple[Why, ...] = get_args(Why)

CLIP_S = 10.0
_STEPS = (50.0, 95.0)
"""Mean luma between dark, dim and bright; limited range, 16 to 235."""
_HOLD = 6.0
"""So far beyond a step the light must be to count as another one than before."""
_CLIPS = 100
"""So many regular clips are spread over the time of a recording."""
_SHORTEST_S, _LONGEST_S = 2 * CLIP_S, 900.0
_SETTLE_S = 3 * CLIP_S
_OTHER_SCENE, _MOVED = 0.5, 0.01
"""Shares of the picture that changed."""


def light_of(brightness: float, before: Light | None = None) -> Light:
    """Return the light of a picture of that mean luma; near a step it stays what it was `before`."""
    level = sum(brightness >= step for step in _STEPS)
    if before is not None:
        was = LIGHTS.index(before)
        step = _STEPS[max(level, was) - 1]
        if abs(level - was) == 1 and abs(brightness - step) < _HOLD:
            return before
    return LIGHTS[level]


class Plan:
    """Asked with each picture that is looked at while no clip is being taken; times in seconds, ascending.

    A clip is due at once for the first picture and another light, soon for another scene, more often than
    regularly when something moves, and regularly in any case.
    """

    def __init__(self, for_s: float) -> None:
        self._period_s = min(max(for_s / _CLIPS, _SHORTEST_S), _LONGEST_S)
        self._light: Light | None = None
        self._began_s = 0.0
        self._began: Blocks | None = None
        self._before: Blocks | None = None

    @property
    def light(self) -> Light:
        """The light of the last picture."""
        return self._light or "dark"

    def why(self, brightness: float, blocks: Blocks | None, now_s: float) -> Why | None:
        """Return why a clip begins with this picture, None when none does. `blocks` is its `block_means`."""
        light, before = self._light, self._before
        self._light, self._before = light_of(brightness, light), blocks
        since_s = now_s - self._began_s
        reason: Why | None = None
        if light is None:
            reason = "first"
        elif light != self._light:
            reason = "light"
        elif since_s >= _SETTLE_S and _changed(blocks, self._began) >= _OTHER_SCENE:
            reason = "scene"
        elif since_s >= self._period_s / 3 and _changed(blocks, before) >= _MOVED:
            reason = "motion"
        elif since_s >= self._period_s:
            reason = "regular"
        if reason is not None:
            self._began_s, self._began = now_s, blocks
        return reason


def _changed(blocks: Blocks | None, others: Blocks | None) -> float:
    return 0.0 if blocks is None or others is None else changed_share(blocks, others)
