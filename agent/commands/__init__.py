"""Commands over MQTT: which are done, by whom, and what they are answered."""

from __future__ import annotations

from agent.commands.commands import Commands, Doer

__all__ = ["Commands", "Doer"]
