"""Why a connection to a broker ended, in words, each told once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.mqtt.options import fix_for

if TYPE_CHECKING:
    from agent.mqtt.options import MqttOptions

log = logging.getLogger(__name__)

_END_AFTER_DENIAL_S = 1.0


class Causes:
    """Remembers what a broker denied and why connections ended. `base` is the device's own tree of topics."""

    def __init__(self, options: MqttOptions, base: str) -> None:
        self._options, self._base = options, base
        self._denied, self._denied_s, self._said_denied = "", 0.0, False
        self.last = ""

    def denied(self, topic: str, now_s: float) -> None:
        """Note that this login may not write `topic`."""
        self._denied, self._denied_s = topic, now_s

    def over(self, how: str) -> None:
        """Tell that it works, as loud as it was told that it does not."""
        level = logging.WARNING if self.last else logging.INFO
        log.log(level, "broker %s: %s", self._options.where, how)
        self.last = self._denied = ""

    def tell(self, why: str, now_s: float, *, known: bool) -> None:
        """Tell why a connection ended, or did not come about; with what to do, unless it is `known` to work."""
        denied = self._just_denied(now_s)
        if why != self.last and not (denied and self._said_denied):
            told = why if known else f"{why}; {fix_for(why)}"
            log.warning("broker %s: %s; messages are kept and sent later", self._options.where, told)
        self.last, self._said_denied = why, self._said_denied or denied
        self._denied = ""

    def of_lost(self, reason: str, now_s: float, *, shared: bool) -> str:
        """Return the words for a connection that ended without a DISCONNECT.

        A broker that gives the connection to another client of the same name need not say so: mosquitto 2.0
        and MQTT 3.1.1 do not. It shows by one short connection after the other: it looks `shared`. One that denies
        a message may end the connection too: mosquitto 2.0 does with `max_queued_messages 0`.
        """
        if self._just_denied(now_s):
            return f"denies {self._denied} and ends the connection; {self._fix_for_denied()}"
        lost = f"connection lost: {reason}"
        if not shared:
            return lost
        return (
            f"{lost}, soon after each connect; if another client uses the same device name"
            f" ({self._options.client_id}), give one of them another device name"
        )

    def _just_denied(self, now_s: float) -> bool:
        return bool(self._denied) and now_s - self._denied_s < _END_AFTER_DENIAL_S

    def _fix_for_denied(self) -> str:
        if not self._base or not self._denied.startswith(f"{self._base}/"):
            return "let this login write that"
        return f"let this login write {self._base}/# (an access list may go by the name in the certificate)"
