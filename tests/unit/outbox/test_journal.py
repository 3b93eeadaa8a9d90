"""The file below the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path


def test_a_header_that_forbids_writing_is_damage(tmp_path: Path) -> None:
    """One flipped bit there made SQLite refuse each write, and the agent its start; the messages come."""
    path = tmp_path / "outbox.db"
    with Outbox(path, device="dev", gap_topic="gap") as outbox:
        for _ in range(3):
            outbox.put(Lane.P0, "t", lambda i: str(i).encode())
    content = bytearray(path.read_bytes())
    content[18] ^= 1
    path.write_bytes(content)
    with Outbox(path, device="dev", gap_topic="gap") as outbox:
        assert outbox.state.repaired == 1
        assert len([message for message in outbox.take(9) if message.topic == "t"]) == 3
