"""What becomes of a result: events to the outbox, states to the publisher, lines to the files asked for."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import msgspec

from agent import wire
from agent.errors import CannotCreate, IOFault
from agent.leftover import event_note, state_note
from agent.motchallenge import MotWriter
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.messages import Event
    from agent.outbox.ledger import MessageId
    from agent.outlet import Outlet
    from agent.pipeline import Result

log = logging.getLogger(__name__)


class EventReporter:
    """Puts the events of one camera into the outbox and the counts of its labels into the retained state.

    `model` may change between frames. `sampling` tells mode, effective rate and miss window of this moment;
    `utc` maps the logic clock to UTC.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        camera: str,
        model: wire.Model,
        sampling: Callable[[], wire.Sampling],
        utc: Callable[[], wire.TimeBase],
    ) -> None:
        self._outlet = outlet
        self._camera = camera
        self.model = model
        self._sampling = sampling
        self._utc = utc
        self._states: dict[str, tuple[int, int]] = {}

    def report(
        self,
        frame: wire.FrameFacts,
        time_s: float,
        events: Sequence[Event],
        counts: Mapping[str, tuple[int, int]],
    ) -> None:
        """Queue `events`, decided on `frame` at `time_s`; `counts` is (objects, moving ones) per label after them.

        To be called for every frame: counts change without an event too, when a known object is back.
        """
        for event in events:
            self._put(frame, event)
        if self._states != counts:
            self._tell_states(time_s, counts)

    def _put(self, frame: wire.FrameFacts, event: Event) -> None:
        sampling, utc = self._sampling(), self._utc()

        def encode(message_id: MessageId) -> bytes:
            return wire.encode_event(
                event,
                message_id=str(message_id),
                identity=self._outlet.identity,
                frame=frame,
                now_s=time.monotonic(),
                model=self.model,
                sampling=sampling,
                time=utc,
            )

        lane = Lane.P1 if event.type == "update" else Lane.P0
        note = None if event.type == "update" else Note(event_note(event.event_id), keep=event.type == "new")
        self._outlet.outbox.put(
            lane, self._outlet.topics.events(event.camera), encode, offset_s=utc.shift_from_s, note=note
        )
        log.debug("camera %s: event %s: %s of %s", self._camera, event.event_id, event.type, event.label)

    def _tell_states(self, time_s: float, counts: Mapping[str, tuple[int, int]]) -> None:
        for label in {*counts, *self._states}:
            now = counts.get(label, (0, 0))
            if now == self._states.get(label):
                continue
            self._states[label] = now
            payload = wire.encode_state(count=now[0], active=now[1] > 0, since_s=time_s, time=self._utc())
            topic = self._outlet.topics.state(self._camera, label)
            self._outlet.publisher.retain(topic, payload)
            self._outlet.outbox.note(state_note(topic), payload)


class DetectionLog:
    """`--detections`: one JSON line an inferred frame, whatever the thresholds of the events are.

    `labels` are those of each camera's model.
    """

    def __init__(self, path: Path, labels: Mapping[str, Sequence[str]], min_score: float) -> None:
        self._file = _create(path)
        self._labels = labels
        self._min_score = min_score

    def write(self, result: Result) -> None:
        """Append the line of one frame. Raises IOFault."""
        found, frame = result.detections, result.frame
        labels = self._labels[frame.camera]
        rows = zip(found.xyxy.tolist(), found.score.tolist(), found.class_id.tolist(), strict=True)
        detections = [
            {"label": labels[label], "score": round(score, 5), "box": [round(c, 5) for c in box]}
            for box, score, label in rows
            if score >= self._min_score
        ]
        line = {
            "camera": frame.camera,
            "seq": frame.seq,
            "pts_s": round(frame.pts_s, 6),
            "detections": detections,
        }
        with _writing(self._file):
            self._file.write(msgspec.json.encode(line).decode() + "\n")

    def close(self) -> None:
        """Write what is buffered. Raises IOFault."""
        with _writing(self._file):
            self._file.close()


class MotLog:
    """`--mot`: the tracks of every inferred frame in MOTChallenge format."""

    def __init__(self, path: Path) -> None:
        self._file = _create(path)
        self._writer = MotWriter(self._file)

    def write(self, result: Result) -> None:
        """Append the lines of one frame. Raises IOFault."""
        with _writing(self._file):
            self._writer.write(result.frame.seq, result.tracks, result.frame.size)

    def close(self) -> None:
        """Write what is buffered. Raises IOFault."""
        with _writing(self._file):
            self._file.close()


def _create(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CannotCreate(f"can't write {path}", seen=error.strerror, fix="check the directory") from error


@contextmanager
def _writing(file: TextIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IOFault(f"can't write {file.name}", seen=error.strerror, fix="make room on the disk") from error
