"""Whether a message is a command that may be done: pure, the clock is an argument."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agent.wire import Command

if TYPE_CHECKING:
    from collections.abc import Container

    from agent.transport import Received

MAX_BYTES = 16 << 10
AHEAD_S = 24 * 3600.0
"""The furthest that `expires` may be ahead."""
RESPONSE_TOPIC_BYTES = 512
_MAX_DEPTH = 16

Reason = Literal[
    "retained",
    "oversize",
    "malformed",
    "expired",
    "replayed",
    "unknown",
    "too_many",
    "busy",
    "response_topic",
    "overflow",
]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is not done; `reason` is how it is counted, `why` what its sender is told."""

    reason: Reason
    why: str
    id: str = ""
    op: str = ""


def judge(
    request: Received, *, names: frozenset[str], seen: Container[str], utc_s: float, synced: bool
) -> Command | Rejected:
    """Return the command in `request`, or why it is none that may be done now.

    `names` are the operations there are, `seen` the ids of commands that were taken before. While the clock is not
    `synced` nobody can say what has expired: `expires` is read and not judged.
    """
    if request.retained:
        return Rejected(
            "retained", "a retained command would be sent again to whoever connects: send it without"
        )
    size_bytes = len(request.payload)
    if size_bytes > MAX_BYTES:
        return Rejected("oversize", f"{size_bytes} bytes: a command has {MAX_BYTES} at most")
    try:
        command = msgspec.json.decode(request.payload, type=Command)
        json.loads(request.payload, object_pairs_hook=_unique)
        _check_depth(command.args)
    except (ValueError, RecursionError) as fault:  # msgspec's own errors are ValueErrors
        why = "nested too deep" if isinstance(fault, RecursionError) else str(fault)
        return Rejected("malformed", f"not a command: {why[:200]}")
    if command.id in seen:
        return Rejected("replayed", "was taken before", command.id, command.op)
    ahead_s = command.expires.timestamp() - utc_s
    if synced and ahead_s < 0:
        return Rejected(
            "expired", f"expired {-ahead_s:.0f} s ago by this device's clock", command.id, command.op
        )
    if synced and ahead_s > AHEAD_S:
        why = f"expires in {ahead_s / 3600:.0f} h: {AHEAD_S / 3600:.0f} at most"
        return Rejected("malformed", why, command.id, command.op)
    if command.op not in names:
        return Rejected("unknown", f"there is {', '.join(sorted(names))}", command.id, command.op)
    return command


def answer_topic(request: Received, *, base: str, reserved: str) -> str | None:
    """Return where the answer to `request` goes: its response topic, else `base`/command/result; None: refused.

    Refused is a topic that nobody can publish to, and one that is not for answers: in the trees of devices anything
    but `base`/command/result and below it, and anything below `reserved`.
    """
    standard = f"{base}/command/result"
    topic = request.response_topic
    if topic is None or topic == standard:
        return standard
    if (
        not topic
        or len(topic.encode(errors="replace")) > RESPONSE_TOPIC_BYTES
        or any(c in topic for c in "+#\0")
    ):
        return None
    if topic.startswith(f"{standard}/"):
        return topic
    closed = (base.rpartition("/")[0], reserved)
    if topic.startswith("$") or any(topic == tree or topic.startswith(f"{tree}/") for tree in closed):
        return None
    return topic


def _unique(pairs: list[tuple[str, Any]]) -> None:
    """Raise ValueError where a key stands twice in one object."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice in one object")


def _check_depth(value: object) -> None:
    """Raise RecursionError where lists and objects lie too deep in each other; decoders differ in what they take."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise RecursionError
