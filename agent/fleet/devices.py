"""What the devices of a fleet tell, taken together. Pure: time is an argument; what can't be read harms nobody else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

Health = Literal["stuck", "offline", "degraded", "silent", "unknown", "ok"]
ORDER: tuple[Health, ...] = ("stuck", "offline", "degraded", "silent", "unknown", "ok")
"""Worst first. silent: online, and its numbers have stopped; unknown: it has not told how it is."""
SILENT_S = 100.0
"""Three messages of `stats` are missing."""
MOST = 200_000
"""So many devices are kept at most: whoever may write to the broker can make topics."""
_MAX_BYTES = 256 << 10
_MAX_TEXT = 80


class _Status(msgspec.Struct):
    state: Literal["online", "offline"]
    version: str = ""


class _Model(msgspec.Struct):
    name: str
    version: int = 0
    state: str = ""


class _Verdict(msgspec.Struct):
    verdict: Literal["ok", "degraded", "stuck"]
    reasons: tuple[str, ...] = ()
    agent_version: str = ""
    model: _Model | None = None


class _Stats(msgspec.Struct):
    values: dict[str, float]


class Numbers(msgspec.Struct, frozen=True):
    """What `stats` says; None: not told. `latency_s`: p95 of the inference in the last minute."""

    fps: float | None = None
    latency_s: float | None = None
    temperature_c: float | None = None
    slowed: bool | None = None
    drops: int | None = None
    gaps: int | None = None


class Device(msgspec.Struct, frozen=True):
    """One device as of now. `seen_s`: how long ago it said something itself, None: only what the broker kept.

    `unreadable` counts messages that could not be read.
    """

    name: str
    health: Health
    reasons: tuple[str, ...]
    version: str
    model: str
    numbers: Numbers
    seen_s: float | None
    unreadable: int


class _Known:
    """What a device has told so far."""

    def __init__(self) -> None:
        self.status: _Status | None = None
        self.verdict: _Verdict | None = None
        self.numbers: Numbers | None = None
        self.seen_s: float | None = None
        self.stats_s: float | None = None
        self.since_s = 0.0
        self.unreadable = 0


class Fleet:
    """All devices below a topic root, from their topics `status`, `health` and `stats`."""

    def __init__(self, root: str) -> None:
        self._prefix = f"{root}/"
        self._known: dict[str, _Known] = {}
        self.left_out = 0

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return tuple(f"{self._prefix}+/{kind}" for kind in ("status", "health", "stats"))

    def take(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> None:
        """Take one message. A retained status that was deleted takes its device away."""
        name, _, kind = topic.removeprefix(self._prefix).rpartition("/")
        if kind == "status" and not payload:
            self._known.pop(name, None)
            return
        if name not in self._known and len(self._known) >= MOST:
            self.left_out += 1
            return
        known = self._known.setdefault(name, _Known())
        known.since_s = known.since_s or now_s
        if not retained:
            known.seen_s = now_s
        try:
            _read(known, kind, payload, now_s)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            known.unreadable += 1

    def complete(self) -> bool:
        """Return whether every device that is online has told its verdict and its numbers."""
        return all(
            known.status is not None
            and (known.status.state == "offline" or None not in (known.verdict, known.numbers))
            for known in self._known.values()
        )

    def devices(self, now_s: float, *, matching: str = "") -> list[Device]:
        """Return the devices, the worst first; with `matching` those that have it in name, health, version or model."""
        found = [_device(name, known, now_s) for name, known in self._known.items()]
        if matching:
            found = [d for d in found if matching in f"{d.name} {d.health} {d.version} {d.model}"]
        return sorted(found, key=lambda device: (ORDER.index(device.health), device.name))


class Summary(msgspec.Struct, frozen=True):
    """Counts of devices by how they are, by version and by model."""

    devices: int
    health: dict[str, int]
    versions: dict[str, int]
    models: dict[str, int]


def summary(devices: Iterable[Device]) -> Summary:
    """Return the counts, the largest first; health from the worst on."""
    every = list(devices)
    health = Counter(device.health for device in every)
    versions, models = (
        dict(Counter(getattr(device, name) or "?" for device in every).most_common())
        for name in ("version", "model")
    )
    return Summary(len(every), {name: health[name] for name in ORDER if health[name]}, versions, models)


def _read(known: _Known, kind: str, payload: bytes, now_s: float) -> None:
    """Note what `payload` says. Raises msgspec.MsgspecError, ValueError for what is no such message."""
    if len(payload) > _MAX_BYTES:
        raise ValueError(f"{len(payload)} bytes")
    if kind == "status":
        known.status = msgspec.json.decode(payload, type=_Status)
    elif kind == "health":
        known.verdict = msgspec.json.decode(payload, type=_Verdict)
    else:
        known.numbers, known.stats_s = _numbers(msgspec.json.decode(payload, type=_Stats).values), now_s


def _numbers(values: dict[str, float]) -> Numbers:
    def whole(name: str) -> int | None:
        return None if (value := values.get(name)) is None else int(value)

    slowed = values.get("edge_agent_slowed")
    return Numbers(
        fps=values.get("edge_agent_inference_rate_total_hertz"),
        latency_s=values.get("edge_agent_inference_p95_seconds"),
        temperature_c=values.get("edge_agent_hottest_celsius"),
        slowed=None if slowed is None else slowed > 0,
        drops=whole("edge_agent_drops_total"),
        gaps=whole("edge_agent_gaps_total"),
    )


def _device(name: str, known: _Known, now_s: float) -> Device:
    verdict, status = known.verdict, known.status
    model = verdict.model if verdict else None
    pending = " (pending)" if model and model.state == "pending" else ""
    version = (status.version if status else "") or (verdict.agent_version if verdict else "")
    return Device(
        name=plain(name),
        health=_health(known, now_s),
        reasons=tuple(plain(each) for each in verdict.reasons[:8]) if verdict else (),
        version=plain(version),
        model=plain(f"{model.name} {model.version}{pending}") if model else "",
        numbers=known.numbers or Numbers(),
        seen_s=None if known.seen_s is None else round(now_s - known.seen_s, 1),
        unreadable=known.unreadable,
    )


def _health(known: _Known, now_s: float) -> Health:
    if known.status is not None and known.status.state == "offline":
        return "offline"
    if known.status is None or known.verdict is None:
        return "unknown"
    told_s = known.since_s if known.stats_s is None else known.stats_s
    if known.verdict.verdict == "ok" and now_s - told_s > SILENT_S:
        return "silent"
    return known.verdict.verdict


def plain(text: str) -> str:
    """Return `text` as a terminal can show it: short, without control characters, whoever wrote it."""
    short = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
    if short.isprintable():
        return short
    return "".join(letter if letter.isprintable() else "?" for letter in short)
