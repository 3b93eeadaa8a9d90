"""Tracks to events: for each object one "new", an "update" when something about it changes, one "end"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.messages import Event
from agent.stationary import Memory, Stillness, iou
from agent.zones import Zones

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config import Detect
    from agent.messages import Box, EventType, Tracks

MODEL = "model"
"""The reason of the ends of objects that another model does not know."""
_BETTER = 0.1  # a top score that rose by this much is worth an update
_LAST_LOOKS = 2  # frames without it before it is gone, however long ago it was seen: one may miss it
_SAME_IOU = 0.3  # a new track on the box of a lost object carries it on


@dataclass(slots=True)
class _Object:
    """An object: a candidate first; then announced, or known (still, and announced in an earlier life)."""

    label: str
    start_s: float
    seen_s: float
    score: float
    top_score: float
    box: Box
    zones: tuple[str, ...]
    stillness: Stillness
    stage: Literal["candidate", "announced", "known"] = "candidate"
    sent: Event | None = None
    missed: int = 0


class EventMachine:
    """The life cycles of one camera's objects: the same tracks, times and ids give the same events.

    `labels` are the names by class id, `default_threshold` the model's own, `new_event_id` gives the id of
    each event. Every event_id gets exactly one "new", then its updates, at least `update_s` apart, then
    exactly one "end". Where boxes are always the whole frame (a classifier's), `moves` is False: nothing
    is then stationary or remembered as that.
    """

    def __init__(
        self,
        detect: Detect,
        *,
        camera: str,
        labels: Sequence[str],
        default_threshold: float,
        new_event_id: Callable[[], str],
        moves: bool = True,
    ) -> None:
        self._detect, self._camera, self._new_event_id = detect, camera, new_event_id
        self._use(labels, default_threshold, moves=moves)
        self._zones = Zones([(zone.name, zone.polygon, zone.labels) for zone in detect.zones])
        self._memory = Memory(detect.stationary_memory_s)
        self._objects: dict[tuple[int, int], _Object] = {}  # by track and class
        self._now_s: float | None = None
        self._seen_labels: set[str] = set()

    def update(self, tracks: Tracks, now_s: float, *, aspect: float = 16 / 9) -> list[Event]:
        """Return what `tracks` of the frame at `now_s` change: ends first, then the others.

        `aspect` is width / height of the picture. A step back in time of more than `end_after_s` is another
        recording and ends every event; for a smaller one time stands still.
        """
        events: list[Event] = []
        if self._now_s is not None and now_s < self._now_s:
            if self._now_s - now_s > self._detect.end_after_s:
                events = self.close(self._now_s, "time went back")
                self._memory.rewind(now_s)
            else:
                now_s = self._now_s
        self._now_s = now_s
        for thing in self._objects.values():
            thing.missed += 1
        self._observe(tracks, now_s, aspect)
        events += self._let_go(now_s)
        for thing in self._objects.values():
            if thing.seen_s == now_s:
                events += self._speak(thing, now_s)
        return events

    def exchange(
        self,
        labels: Sequence[str],
        default_threshold: float,
        classes: Mapping[int, int],
        *,
        moves: bool = True,
    ) -> list[Event]:
        """Go on with another model; end what it does not know, with reason "model".

        `classes` are its class ids by those known so far. Nothing outlives a change from boxes to whole pictures.
        """
        known = classes if moves == self._moves else {}
        unknown = [key for key in self._objects if key[1] not in known]
        events = [] if self._now_s is None else self._end(unknown, self._now_s, MODEL)
        self._objects = {(track, known[which]): thing for (track, which), thing in self._objects.items()}
        self._use(labels, default_threshold, moves=moves)
        return events

    def _use(self, labels: Sequence[str], default_threshold: float, *, moves: bool) -> None:
        self._labels, self._moves = tuple(labels), moves
        self._default_threshold = (
            default_threshold if self._detect.threshold is None else self._detect.threshold
        )
        self._stationary_s = self._detect.stationary_s if moves else math.inf

    def close(self, now_s: float, reason: str) -> list[Event]:
        """End every open event, with `reason`; the machine may be used on."""
        self._now_s = now_s if self._now_s is None else max(now_s, self._now_s)
        return self._end(list(self._objects), self._now_s, reason)

    @property
    def watchful(self) -> bool:
        """Something is there that moves, or was not found in the last frame: the next frame matters."""
        return any(thing.missed or not thing.stillness.still for thing in self._objects.values())

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return for each label met so far how many are there, and how many of these are not stationary."""
        there = {label: [0, 0] for label in sorted(self._seen_labels)}
        for thing in self._objects.values():
            if thing.stage != "candidate":
                there[thing.label][0] += 1
                there[thing.label][1] += not thing.stillness.still
        return {label: (count, active) for label, (count, active) in there.items()}

    def _observe(self, tracks: Tracks, now_s: float, aspect: float) -> None:
        """Bring the objects up to date with the tracks that a detection of this frame carries."""
        keys = list(zip(tracks.track_id.tolist(), tracks.class_id.tolist(), strict=True))
        names = [self._name(class_id) for _, class_id in keys]
        zones = self._zones.names(tracks.xyxy, names)
        rows = zip(keys, names, zones, tracks.score.tolist(), tracks.xyxy.tolist(), strict=True)
        for (key, label, inside, score, corners), matched in zip(rows, tracks.matched.tolist(), strict=True):
            if not matched or (self._detect.labels and label not in self._detect.labels):
                continue
            box: Box = (corners[0], corners[1], corners[2], corners[3])
            threshold = self._detect.thresholds.get(label, self._default_threshold)
            if score < threshold - self._detect.hysteresis:
                continue
            if key not in self._objects and not self._adopt(key, label, box, keys):
                if score < threshold:
                    continue
                self._objects[key] = self._candidate(label, box, inside, score, now_s)
            thing = self._objects[key]
            thing.seen_s, thing.score, thing.box, thing.zones = now_s, score, box, inside
            thing.missed = 0
            thing.top_score = max(thing.top_score, score)
            thing.stillness.see(box, now_s, aspect=aspect)

    def _name(self, class_id: int) -> str:
        return self._labels[class_id] if 0 <= class_id < len(self._labels) else f"class-{class_id}"

    def _candidate(self, label: str, box: Box, zones: tuple[str, ...], score: float, now_s: float) -> _Object:
        stillness = Stillness(box, now_s, stationary_s=self._stationary_s)
        return _Object(label, now_s, now_s, score, score, box, zones, stillness)

    def _adopt(self, key: tuple[int, int], label: str, box: Box, live: list[tuple[int, int]]) -> bool:
        """Let the new track `key` carry on the object, if any, that lost its own track near `box`."""
        lost = {
            other: iou(thing.box, box)
            for other, thing in self._objects.items()
            if thing.label == label and other not in live
        }
        best = max(lost, key=lost.__getitem__, default=None)
        if best is None or lost[best] < _SAME_IOU:
            return False
        self._objects[key] = self._objects.pop(best)
        return True

    def _let_go(self, now_s: float) -> list[Event]:
        after_s = self._detect.end_after_s
        lost = [
            key
            for key, thing in self._objects.items()
            if now_s - thing.seen_s >= after_s and thing.missed >= _LAST_LOOKS
        ]
        return self._end(lost, now_s, "lost")

    def _end(self, keys: list[tuple[int, int]], now_s: float, reason: str) -> list[Event]:
        """Drop objects: still ones are remembered, announced ones get their end."""
        events = []
        for thing in map(self._objects.pop, keys):
            if thing.stillness.still and thing.stage != "candidate":
                self._memory.remember(thing.label, thing.box, thing.seen_s)
            if thing.sent is not None:
                events.append(self._event("end", thing, thing.sent.event_id, now_s, reason))
        return events

    def _speak(self, thing: _Object, now_s: float) -> list[Event]:
        """Return the event, if any, that an object seen in this frame is worth."""
        if thing.stage == "candidate":
            if now_s - thing.start_s < self._detect.min_duration_s:
                return []
            self._seen_labels.add(thing.label)
            if self._memory.recall(thing.label, thing.box, now_s):
                thing.stage = "known"
                thing.stillness.settle()
        if thing.sent is None:
            if thing.stage == "known" and thing.stillness.still:
                return []
            thing.stage = "announced"
            thing.sent = self._event("new", thing, self._new_event_id(), now_s)
        elif now_s - thing.sent.time_s >= self._detect.update_s and _changed(thing, thing.sent):
            thing.sent = self._event("update", thing, thing.sent.event_id, now_s)
        else:
            return []
        return [thing.sent]

    def _event(
        self, kind: EventType, thing: _Object, event_id: str, now_s: float, reason: str | None = None
    ) -> Event:
        return Event(
            type=kind,
            event_id=event_id,
            camera=self._camera,
            label=thing.label,
            score=thing.score,
            top_score=thing.top_score,
            box=thing.box,
            zones=thing.zones,
            stationary=thing.stillness.still,
            start_s=thing.start_s,
            time_s=now_s,
            end_s=thing.seen_s if kind == "end" else None,
            reason=reason,
        )


def _changed(thing: _Object, sent: Event) -> bool:
    """Tell whether `thing` differs from `sent`: zones, stillness, a better look, clear of its box."""
    return (
        thing.zones != sent.zones
        or thing.stillness.still != sent.stationary
        or thing.top_score >= sent.top_score + _BETTER
        or (not thing.stillness.still and iou(thing.box, sent.box) == 0.0)
    )
