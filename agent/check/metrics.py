"""The address where Prometheus may ask: whether the agent can have it."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

from agent.check.finding import Finding, ok
from agent.errors import CannotCreate

if TYPE_CHECKING:
    from agent.metrics import Snapshot

WHAT = "metrics"
LIMIT_S = 10.0
_ANSWER_S = 5.0
_READ_BYTES = 65536


def check(address: tuple[str, int], *, device: str) -> list[Finding]:
    """Listen at `address` for a moment; it may be taken by the agent of `device`. Raises CannotCreate."""
    from agent.metrics.endpoint import Endpoint

    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        with Endpoint(host, port, _nobody):
            return [ok(WHAT, f"http://{where}/metrics is free")]
    except CannotCreate:
        if f'device="{device}"' not in _info(where):
            raise
        return [ok(WHAT, f"http://{where}/metrics: the agent that runs answers")]


def _nobody() -> Snapshot:
    raise RuntimeError("only a check")


def _info(where: str) -> str:
    """Return the line of an agent that says which one it is, "" where none answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{where}/metrics", timeout=_ANSWER_S) as answer:
            text = answer.read(_READ_BYTES).decode(errors="replace")
    except (OSError, HTTPException):
        return ""
    return next((line for line in text.splitlines() if line.startswith("edge_agent_info{")), "")
