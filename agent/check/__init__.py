"""`edge-agent check`: everything the agent needs, tried out once, each fault with its fix."""

from __future__ import annotations

from agent.check.finding import Finding

__all__ = ["Finding"]
