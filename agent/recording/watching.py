"""Looks at pictures for the plan: a few, and only those that show something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.luma import block_means, luma_of
from agent.picture import flaw_of, sample_of

if TYPE_CHECKING:
    import av

    from agent.recording.plan import Light, Plan, Why

LOOK_S = 1.0
"""Pictures are looked at no more often."""


class Watch:
    """Judges pictures by the plan; a picture without a scene (black, torn) begins no clip."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._looked_s = float("-inf")

    @property
    def light(self) -> Light:
        """The light of the last picture."""
        return self._plan.light

    def why(self, picture: av.VideoFrame, now_s: float) -> Why | None:
        """Return why a clip begins with `picture`, None when none does; looks at most every LOOK_S."""
        if now_s - self._looked_s < LOOK_S or picture.is_corrupt:
            return None
        self._looked_s = now_s
        sample = sample_of(picture)
        if sample is not None and flaw_of(sample).kind:
            return None
        luma = luma_of(picture)
        if luma is None:
            return self._plan.why(0.0, None, now_s)
        return self._plan.why(float(luma.mean()), block_means(luma), now_s)
