"""How one camera stands: its state, told in the log when it changes, and whether it is lost. Pure but for the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.camerahealth import HealthMachine

if TYPE_CHECKING:
    from agent.camerahealth import CameraHealth, Signs

log = logging.getLogger(__name__)

LOST_S = 3.0
"""So long a camera must not be trusted before it is lost."""


class Standing:
    """The state of the camera `name`. Without `retries` its fault is an end, which is told by whoever ends."""

    def __init__(self, name: str, now_s: float, *, retries: bool) -> None:
        self._name, self._retries = name, retries
        self._machine = HealthMachine(now_s)
        self._trusted_s = now_s
        self._loud = logging.INFO
        self.lost = False

    @property
    def health(self) -> CameraHealth:
        """Its state as of the last step."""
        return self._machine.health

    def step(self, signs: Signs, now_s: float) -> CameraHealth:
        """Return the state after `signs`; `lost` tells then whether it was not trusted for long."""
        before, now = self.health, self._machine.step(signs, now_s)
        if now.trusted or not signs.live:  # a clip is what it is
            self._trusted_s = now_s
        self.lost = now_s - self._trusted_s >= LOST_S
        if now.state != before.state:
            self._tell(before, now)
        return now

    def _tell(self, before: CameraHealth, now: CameraHealth) -> None:
        if now.state != "ok":
            held = "" if now.trusted else ": its pictures are not used"
            # One command ends with the fault of a camera that was never there: once is enough.
            self._loud = logging.WARNING if self._retries or before.state != "starting" else logging.INFO
            log.log(self._loud, "camera %s: %s (%s)%s", self._name, now.state, now.detail, held)
        elif before.state != "starting":
            lasted_s = now.since_s - before.since_s
            log.log(self._loud, "camera %s: ok, after %.0f s %s", self._name, lasted_s, before.state)
