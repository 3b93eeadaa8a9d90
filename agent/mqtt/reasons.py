"""The reason codes of MQTT 5 (section 2.4): what each means for a message or a connection."""

from __future__ import annotations

from agent.transport import Outcome

SUCCESS, NO_SUBSCRIBERS = 0x00, 0x10
UNSUPPORTED_PROTOCOL, NOT_AUTHORISED = 0x84, 0x87
TAKEN_OVER, PACKET_TOO_LARGE, QUOTA_EXCEEDED = 0x8E, 0x95, 0x97

LOGIN_REFUSED = frozenset({0x86, NOT_AUTHORISED, 0x8A, 0x8C})
"""A CONNACK with one of these: user, password, certificate or client are not welcome."""

_DEAD = frozenset({0x90, PACKET_TOO_LARGE, 0x99})
_WORDS = {
    SUCCESS: "success",
    NO_SUBSCRIBERS: "no matching subscribers",
    0x80: "unspecified error",
    0x83: "implementation specific error",
    NOT_AUTHORISED: "not authorised",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    PACKET_TOO_LARGE: "packet too large",
    QUOTA_EXCEEDED: "quota exceeded",
    0x99: "payload format invalid",
}


def outcome_of(code: int) -> Outcome:
    """Return what became of a message whose PUBACK has the reason `code`."""
    if code in {SUCCESS, NO_SUBSCRIBERS}:
        return Outcome.DELIVERED
    if code == NOT_AUTHORISED:
        return Outcome.DENIED
    if code == QUOTA_EXCEEDED:
        return Outcome.BUSY
    return Outcome.REJECTED if code in _DEAD else Outcome.REFUSED


def in_words(code: int) -> str:
    """Return `code` of a PUBACK as people read it."""
    return f"0x{code:02x} {_WORDS.get(code, 'a code that is not for an answer to a publish')}"
