"""The verdict: a call past its deadline is stuck, waiting never is, and every fault has its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.camerahealth import TRUSTED, CameraHealth, CameraState
from agent.health import Verdict, judge
from agent.heartbeat import CALL_S, Beat, Heartbeat
from agent.outbox.outbox import OutboxState
from agent.publisher.state import PublisherState
from agent.status import EngineStatus

WELL = CameraHealth("ok", 0.0)


def publisher(**more: Any) -> PublisherState:
    """Return the state of one that is connected, with some fields of its own."""
    fields = dict.fromkeys(PublisherState.__dataclass_fields__, 0) | {
        "alive": True,
        "connected": True,
        "protocol": "MQTT 5",
        "denied_topics": (),
        "unread_topics": (),
        "last_error": "",
    }
    return PublisherState(**{**fields, **more})


def outbox(**more: Any) -> OutboxState:
    """Return the state of an empty one."""
    fields = {"queued": 0, "used_bytes": 0, "max_bytes": 100, "failing": "", "repaired": 0, "durable": True}
    return OutboxState(**{**fields, **more})


def verdict(*beats: Heartbeat, now_s: float = 1000.0, **more: Any) -> Verdict:
    """Return the verdict on an agent that is well but for what is given."""
    given = {"cameras": {"yard": WELL}, "publisher": publisher(), "outbox": outbox(), **more}
    return judge(beats, now_s=now_s, **given)


def test_well_is_ok() -> None:
    """All that work or wait: nothing to say."""
    assert verdict(Heartbeat("engine"), Heartbeat("stages", "finish", 999.0)) == Verdict()


def test_a_call_past_its_deadline_is_stuck() -> None:
    """The verdict names the stage, the call and the deadline; on the deadline itself it is not yet stuck."""
    hung = Heartbeat("engine m", "infer", 1000.0 - CALL_S - 0.1)
    seen = verdict(hung, Heartbeat("stages m", "finish", 1000.0 - CALL_S))
    assert (seen.state, seen.stuck) == ("stuck", (hung,))
    assert seen.reasons == ("engine m: infer takes longer than 10 s",)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_waiting_is_never_stuck(since_s: float, now_s: float) -> None:
    """For a camera, a broker, a frame: however long it lasts."""
    beat = Beat()
    beat.begin("infer", since_s)
    beat.wait()
    assert verdict(beat.read("engine"), now_s=now_s).state == "ok"


@given(
    st.lists(st.tuples(st.sampled_from(["", "infer", "commit"]), st.floats(0, 1e6), st.floats(0.1, 100))),
    st.floats(0, 1e6),
    st.booleans(),
    st.sampled_from(["", "disk full"]),
    st.dictionaries(st.text(), st.sampled_from(["ok", "starting", "down", "black", "clock_jump"])),
)
def test_a_verdict_always_fits_what_it_saw(
    beats: list[tuple[str, float, float]],
    now_s: float,
    connected: bool,
    failing: str,
    cameras: dict[str, Any],
) -> None:
    """Stuck exactly when a call is late, degraded exactly when something else is wrong, and each has a reason."""
    given_beats = [Heartbeat(str(i), *beat) for i, beat in enumerate(beats)]
    seen = verdict(
        *given_beats,
        now_s=now_s,
        publisher=publisher(connected=connected),
        outbox=outbox(failing=failing),
        cameras={name: CameraHealth(state, 0.0) for name, state in cameras.items()},
    )
    late = tuple(beat for beat in given_beats if beat.call and now_s - beat.since_s > beat.deadline_s)
    bad = [name for name, state in cameras.items() if state not in {"ok", "starting"}]
    wrong = len(bad) + (not connected) + bool(failing)
    assert seen.stuck == late
    assert len(seen.reasons) == len(late) + wrong
    assert seen.state == ("stuck" if late else "degraded" if wrong else "ok")


def test_each_fault_has_its_reason() -> None:
    """One line each: cameras by name, the broker with its error, topics it denies, the disk."""
    cameras = {
        "yard": CameraHealth("down", 0.0, "connection refused"),
        "door": CameraHealth("black", 0.0),
        "gate": CameraHealth("starting", 0.0),
    }
    assert verdict(cameras=cameras).reasons == ("camera door: black", "camera yard: down: connection refused")
    away = publisher(connected=False, last_error="no route to host", protocol="")
    assert verdict(publisher=away).reasons == ("broker: no route to host",)
    assert verdict(publisher=replace(away, protocol="file")).reasons == ("sink: no route to host",)
    denied = publisher(denied_topics=("a", "b", "c", "d", "e"))
    assert verdict(publisher=denied).reasons == ("broker: denies messages on a, b, c and 2 more",)
    flooded = publisher(unread_topics=("cmd",))
    assert verdict(publisher=flooded).reasons == ("broker: cmd is flooded: it is not read for some minutes",)
    full = outbox(durable=False, failing="disk full", used_bytes=91)
    assert verdict(outbox=full).reasons == (
        "outbox: in memory alone, a restart loses what is queued",
        "outbox: disk full",
        "outbox: more than 90% full",
    )


def test_a_camera_that_is_not_trusted_is_never_well() -> None:
    """Whatever suppresses events is told as a reason."""
    for state in get_args(CameraState):
        well = verdict(cameras={"c": CameraHealth(state, 0.0)}).state == "ok"
        assert well <= (state in TRUSTED)


def test_an_engine_that_could_not_be_built_is_a_reason() -> None:
    """What runs instead is not at its best: degraded, with the line that says why."""
    engine = EngineStatus(
        "m", "litert-xnnpack", "int8.tflite", "int8", "", ("TensorRT refuses this ONNX file",)
    )
    seen = verdict(engines=[engine])
    assert (seen.state, seen.reasons) == ("degraded", ("model m: TensorRT refuses this ONNX file",))
    assert verdict(engines=[msgspec.structs.replace(engine, failures=())]).state == "ok"
