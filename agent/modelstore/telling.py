"""Tells the agent that runs with a store that this has changed."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from agent.control import SOCKET, ask, socket_folder
from agent.errors import AgentError

_SERVICE = Path("/run/edge-agent")
"""RuntimeDirectory of the systemd unit."""
_ADOPT_S = 120.0
"""A model is loaded and tried."""


def tell_agent(state_dir: Path) -> str:
    """Have the agent with `state_dir` take on what the store says now; return in words what came of it.

    That is no fault of who changed the store: the next start takes it on.
    """
    for folder in dict.fromkeys((state_dir, socket_folder(_SERVICE, os.environ), _SERVICE)):
        if not (folder / SOCKET).exists():
            continue
        try:
            if _place_of(ask(folder, "status")).resolve() != state_dir.resolve():
                continue
            answer = msgspec.json.decode(ask(folder, "model.adopt", patience_s=_ADOPT_S))
        except (AgentError, msgspec.MsgspecError) as fault:
            return f"the agent has not taken it on: {fault}"
        if isinstance(answer, dict) and "error" in answer:
            return f"the agent has not taken it on: {answer['error']}"
        return "the agent has taken it on"
    return "no agent runs here: the next start takes it on"


class _Status(msgspec.Struct, frozen=True):
    """What is needed here of what an agent of any version answers to `status`."""

    state_dir: str


def _place_of(answer: bytes) -> Path:
    return Path(msgspec.json.decode(answer, type=_Status).state_dir)
