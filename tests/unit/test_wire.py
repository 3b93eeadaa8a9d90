"""The wire format: what is sent fits the shipped schema."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import messages, wire
from agent.schemas import FOLDER

IDENTITY = wire.Identity("dev", "boot")


def event(**more: object) -> messages.Event:
    """Return an event with some fields of its own."""
    fields = {
        "type": "new",
        "event_id": "e1",
        "camera": "yard",
        "label": "person",
        "score": 0.123456,
        "top_score": 0.9,
        "box": (0.1234567, 0.2, 0.3, 1.0000001),
        "zones": ("gate",),
        "stationary": False,
        "start_s": 10.0,
        "time_s": 12.5,
    }
    return messages.Event(**{**fields, **more})  # type: ignore[arg-type]


def encoded(what: messages.Event) -> bytes:
    """Return the payload of `what`."""
    return wire.encode_event(
        what,
        message_id="dev/abc/P0/1",
        identity=IDENTITY,
        frame=wire.FrameFacts(7, 0.7, 99.75, 640, 480),
        now_s=100.0,
        model=wire.Model("m", 3, "0" * 64, "int8", "tflite"),
        sampling=wire.Sampling("motion", 4.9, None),
        time=wire.TimeBase(1_700_000_000.0, synced=False),
    )


def valid(name: str, payload: bytes) -> None:
    """Raise unless `payload` fits the shipped schema `name`."""
    schema = json.loads((FOLDER / f"{name}-v1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(payload))


def test_an_event_says_all_it_should() -> None:
    """Times become UTC, numbers are rounded, the box is clipped, the age is that of the frame."""
    got = json.loads(encoded(event()))
    assert got["time"] == "2023-11-14T22:13:32.500Z"
    assert got["start_time"] == "2023-11-14T22:13:30.000Z"
    assert got["end_time"] is None
    assert got["score"] == 0.1235
    assert got["box"] == [0.12346, 0.2, 0.3, 1.0]
    assert got["frame"] == {"seq": 7, "pts_s": 0.7, "age_ms": 250.0}
    assert got["mono_ns"] == 100_000_000_000
    assert got["clock_synced"] is False


@given(
    score=st.floats(0, 1),
    box=st.tuples(*[st.floats(-0.01, 1.01)] * 4),
    end_s=st.none() | st.floats(0, 1e8),
    label=st.text(),
)
def test_every_event_fits_the_schema_and_decodes(
    score: float, box: tuple[float, float, float, float], end_s: float | None, label: str
) -> None:
    """Whatever the values, the payload is valid and reads back."""
    payload = encoded(event(score=score, box=box, end_s=end_s, label=label, type="end"))
    valid("event", payload)
    assert msgspec.json.decode(payload, type=wire.EventMessage).label == label


def test_the_other_payloads_fit_their_schemas() -> None:
    """Birth, will, state, statistics and gap are valid too."""
    previous = wire.Previous("abc", {"P0": 3})
    valid("status", wire.encode_birth(IDENTITY, version="1", epoch="e", before=[previous]))
    last_end = wire.LastEnd("fault", wire.TimeBase(1.7e9, True).utc(1.0), "x" * 2048)
    valid("status", wire.encode_birth(IDENTITY, version="1", epoch="e", last_end=last_end))
    valid("status", wire.encode_offline(IDENTITY, version="1", epoch="e"))
    valid("state", wire.encode_state(count=2, active=True, since_s=5.0, time=wire.TimeBase(1.7e9, True)))
    valid("stats", wire.encode_stats({"fps": 4.9}, message_id="i", identity=IDENTITY, utc_s=1.7e9))
    valid("gap", msgspec.json.encode(wire.Gap(1, "e", "P1", 1, 9, 9, "disk_full")))


def test_health_fits_its_schema() -> None:
    """With cameras and reasons, and with none."""
    broker, box = wire.BrokerHealth("MQTT 5", ("t",), 1), wire.OutboxHealth(True, "", 0)
    time = wire.TimeBase(1.7e9, True).utc(1.0)
    cameras = {"yard": wire.CameraHealth("down", time, "refused")}
    valid("health", msgspec.json.encode(wire.Health(1, "degraded", ("a",), cameras, broker, box, True, time)))
    valid("health", msgspec.json.encode(wire.Health(1, "ok", (), {}, broker, box, False, time)))


SECONDS = st.floats(-3e9, 3e9)


@given(start_s=SECONDS, lasted_s=st.floats(0, 1e6), end=st.booleans(), shift_s=SECONDS)
def test_restamping_moves_every_time_by_the_same(
    start_s: float, lasted_s: float, end: bool, shift_s: float
) -> None:
    """The result is the event as the right clock would have told it; nothing but its times changes."""
    times = {"start_s": start_s, "time_s": start_s + lasted_s, "end_s": start_s + lasted_s if end else None}
    what = event(**times)
    before, after = json.loads(encoded(what)), json.loads(payload := wire.restamp(encoded(what), shift_s))
    valid("event", payload)
    assert list(before) == list(after)
    moved = {"time", "start_time", "end_time", "clock_synced"}
    assert {k: v for k, v in before.items() if k not in moved} == {
        k: v for k, v in after.items() if k not in moved
    }
    assert after["clock_synced"] is True
    assert (after["end_time"] is None) is not end
    for name in ("time", "start_time", *(["end_time"] if end else [])):
        step_s = (instant(after[name]) - instant(before[name])).total_seconds()
        assert step_s == pytest.approx(shift_s, abs=0.0006)
        assert step_s == (instant(after["time"]) - instant(before["time"])).total_seconds()


def test_restamping_by_nothing_changes_nothing_else() -> None:
    """Byte by byte, but for the word that the clock is synchronised."""
    payload = encoded(event())
    assert wire.restamp(payload, 0.0) == payload.replace(b'"clock_synced":false', b'"clock_synced":true')


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00")


def test_boot_id(tmp_path: Path) -> None:
    """What the system does not tell is `unknown`."""
    assert len(wire.boot_id()) == 36
    assert wire.boot_id(tmp_path / "none") == "unknown"
