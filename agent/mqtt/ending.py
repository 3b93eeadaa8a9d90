"""How a connection to a broker ended, or did not come about, and what that means for the next try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.mqtt import reasons
from agent.mqtt.client import MAX_RECEIVED_BYTES

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode


@dataclass(frozen=True, slots=True)
class Ending:
    """`why` in words, and what follows from it.

    `silent`: the broker said nothing of this version of MQTT. `contested`: the connection was no success, however long
    it stood. `login_refused`: not to be asked again soon. `too_large`: the largest message under way is not wanted.
    """

    why: str
    silent: bool = False
    contested: bool = False
    login_refused: bool = False
    too_large: bool = False


CLOSED = Ending("the broker closed the connection")
GIVEN_UP = Ending("given up after a fault of this program")
FLOODED = Ending(
    f"more than {MAX_RECEIVED_BYTES} bytes were sent to it in one message: look who sends that",
    contested=True,
)


def failed(fault: Exception) -> Ending:
    """Return the ending of a connection that did not come about: name lookup, TCP or TLS failed."""
    return Ending(getattr(fault, "strerror", None) or str(fault) or type(fault).__name__)


def no_connack(after_s: float) -> Ending:
    """Return the ending of a connection that the broker has not accepted."""
    return Ending(f"no CONNACK within {after_s:g} s", silent=True)


def no_puback(after_s: float) -> Ending:
    """Return the ending of a connection that carries nothing."""
    return Ending(f"no PUBACK within {after_s:g} s: look at the broker's log", contested=True)


def refused(reason: ReasonCode) -> Ending:
    """Return the ending that the CONNACK with `reason` is."""
    return Ending(f"refused: {reason}", login_refused=reason.value in reasons.LOGIN_REFUSED)


def lost(why: str, *, stood: bool) -> Ending:
    """Return the ending of a connection that broke; `stood`: it was accepted before."""
    return Ending(why, silent=not stood)


def disconnected(reason: ReasonCode, client_id: str, *, stood: bool) -> Ending:
    """Return the ending that the broker's DISCONNECT with `reason` is; `stood`: it had accepted the connection."""
    if reason.value == reasons.TAKEN_OVER:
        why = f"another client uses the same device name ({client_id})"
        return Ending(f"{why} and took the connection: give one of them another device name", contested=True)
    too_large = reason.value == reasons.PACKET_TOO_LARGE
    return Ending(f"the broker disconnected: {reason}", silent=not stood, too_large=too_large)
