"""What Home Assistant is told: by its rules, for any names, with templates that read our payloads."""

from __future__ import annotations

import json

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import wire
from agent.homeassistant import Device, components, discovery, discovery_topic
from agent.topics import Topics
from agent.transport import Received
from tests import homeassistant_rules as rules

TOPICS = Topics.of("dev1")
DEVICE = Device("dev1", TOPICS, "0.1.0", "Raspberry Pi 5")
ODD = "ga\"r' age {{ ü 😀 }}\\"
NAMES = st.text(
    st.characters(exclude_characters="/+#$", exclude_categories=("Cc", "Cs")), min_size=1, max_size=15
).filter(str.strip)


def health(**changes: object) -> bytes:
    """Return a health message of the cameras yard and ODD."""
    cameras = {
        "yard": wire.CameraHealth("ok", "2026-11-22T12:00:00.000Z", ""),
        ODD: wire.CameraHealth("down", "2026-11-22T12:00:00.000Z", "refused"),
    }
    fields = {
        "schema": 1,
        "verdict": "ok",
        "reasons": (),
        "cameras": cameras,
        "broker": wire.BrokerHealth("MQTT 5", (), 0),
        "outbox": wire.OutboxHealth(True, "", 0),
        "clock_synced": True,
        "time": "2026-11-22T12:00:00.000Z",
    }
    return msgspec.json.encode(wire.Health(**{**fields, **changes}))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, st.dictionaries(NAMES, st.lists(NAMES, max_size=3, unique=True).map(tuple), max_size=3))
def test_any_names_make_a_message_by_the_rules(name: str, cameras: dict[str, tuple[str, ...]]) -> None:
    """Ids are safe and each its own, however alike the names; templates hold any camera's name."""
    device = Device(name, Topics.of(name), "1")
    found = rules.check(discovery_topic(name, "homeassistant"), discovery(device, cameras))
    assert len(found) == 7 + sum(3 + 2 * len(labels) for labels in cameras.values())
    for each in list(found.values()):
        if each["p"] == "switch":
            assert rules.command(each["cmd_tpl"], "ON")["args"]["camera"] in cameras


def test_what_is_gone_is_removed() -> None:
    """With its platform alone; one that is back is whole again."""
    message = json.loads(discovery(DEVICE, {"yard": ()}, gone={"old.event": "event", "yard.event": "event"}))
    assert message["cmps"]["old.event"] == {"p": "event"}
    assert len(message["cmps"]["yard.event"]) > 1


def test_states_of_the_device() -> None:
    """Connectivity, problem with its reasons, and numbers; those that are not there are unknown."""
    found = components(DEVICE, {"yard": ("person",), ODD: ()})
    identity = wire.Identity("dev1", "boot")
    birth = wire.encode_birth(identity, version="1", epoch="e")
    assert rules.state(found["connectivity"], birth) is True
    assert rules.state(found["connectivity"], wire.encode_offline(identity, version="1", epoch="e")) is False
    bad = health(verdict="degraded", reasons=('camera it\'s "down"',))
    assert rules.state(found["problem"], bad) is True
    assert rules.state(found["problem"], health()) is False
    attributes = json.loads(rules.render(found["problem"]["json_attr_tpl"], bad))
    assert attributes == {"verdict": "degraded", "reasons": ['camera it\'s "down"']}
    stats = wire.encode_stats(
        {
            "edge_agent_inference_rate_total_hertz": 4.5,
            "edge_agent_inference_p50_seconds": 0.021,
            "edge_agent_slowed": 1,
        },
        message_id="1",
        identity=identity,
        utc_s=0.0,
    )
    assert rules.state(found["fps"], stats) == 4.5
    assert rules.state(found["inference"], stats) == 21
    assert rules.state(found["temperature"], stats) is None
    assert rules.state(found["throttled"], stats) is True
    assert all(found[name]["exp_aft"] for name in ("fps", "inference", "temperature", "throttled"))
    update = wire.ModelUpdate(1, "good 3", "good 4", True, 50)
    assert rules.state(found["model"], msgspec.json.encode(update)) == {
        "installed_version": "good 3",
        "latest_version": "good 4",
        "in_progress": True,
        "update_percentage": 50,
    }


def test_states_of_a_camera() -> None:
    """Connectivity by its health, whatever its name; the switch; counts and occupancy."""
    found = components(DEVICE, {"yard": ("person",), ODD: ()})
    odd = next(name for name in found if name.startswith("ga_r") and name.endswith(".connectivity"))
    assert rules.state(found["yard.connectivity"], health()) is True
    assert rules.state(found[odd], health()) is False
    assert rules.state(found[odd], health(cameras={})) is False
    sampling = wire.SamplingSettings("interval", 5.0, 1, 0.5, 10.0, 0.002)
    settings = msgspec.json.encode(wire.CameraSettings(1, False, sampling))
    assert rules.state(found["yard.enabled"], settings) is False
    base = wire.TimeBase(1.7e9, True)
    seen = wire.encode_state(count=2, active=True, since_s=1.0, time=base)
    assert rules.state(found["yard.person.occupancy"], seen) is True
    assert rules.state(found["yard.person.count"], seen) == 2


def test_a_switch_sends_a_command_that_is_taken() -> None:
    """By our own judge: with an id of its own each time, and an expiry a minute ahead."""
    import time

    from agent.commands.judging import judge

    switch = components(DEVICE, {ODD: ()})[
        next(n for n in components(DEVICE, {ODD: ()}) if n.endswith("enabled"))
    ]
    for value, op in (("ON", "camera.enable"), ("OFF", "camera.disable")):
        sent = json.dumps(rules.command(switch["cmd_tpl"], value)).encode()
        names = frozenset({"camera.enable", "camera.disable"})
        taken = judge(Received("t", sent), names=names, seen=(), utc_s=time.time(), synced=True)
        assert isinstance(taken, wire.Command), taken
        assert (taken.op, taken.args) == (op, {"camera": ODD})
