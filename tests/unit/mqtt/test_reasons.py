"""What the codes of a PUBACK mean."""

from __future__ import annotations

from agent.mqtt.reasons import in_words, outcome_of
from agent.transport import Outcome

MEANINGS = {
    0x00: Outcome.DELIVERED,
    0x10: Outcome.DELIVERED,
    0x87: Outcome.DENIED,
    0x90: Outcome.REJECTED,
    0x95: Outcome.REJECTED,
    0x97: Outcome.BUSY,
    0x99: Outcome.REJECTED,
}


def test_every_code_has_a_meaning() -> None:
    """Two deliver, three are a dead letter, one denies, one is a quota; all others are refusals."""
    for code in range(256):
        assert outcome_of(code) is MEANINGS.get(code, Outcome.REFUSED)
        assert in_words(code).startswith(f"0x{code:02x} ")
