"""What Home Assistant is told of a device: one message for MQTT's device-based discovery. Pure.

By https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload (2024.11 and later), with the short
names of its keys: `p` platform, `stat_t` state topic, `val_tpl` value template, `avty` availability and so on.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.topics import Topics

EXPIRE_S = 120
"""Numbers that did not come for so long are unknown: they are told every half a minute."""
_VALID_MIN = 1
"""How long a command from a switch may be done. Home Assistant's templates have no ranges above 100,000."""
_AWAY = ("down", "stalled", "auth_failed")
"""States of a camera that gives no pictures."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

Component = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Device:
    """What a device is: its topics, the agent's version, and the board where that is known."""

    name: str
    topics: Topics
    version: str
    board: str = ""


def discovery_topic(device: str, prefix: str) -> str:
    """Return where the message of `device` goes. Home Assistant wants letters, digits, _ and - in its name."""
    return f"{prefix}/device/{_safe(device)}/config"


def discovery(
    device: Device, cameras: Mapping[str, tuple[str, ...]], *, gone: Mapping[str, str] | None = None
) -> bytes:
    """Return the message on `device` with its `cameras`, each with the labels it has counts of.

    `gone` are components that were told of before and are no more, each with its platform: they are removed.
    """
    topics = device.topics
    told: dict[str, Component] = {name: {"p": platform} for name, platform in (gone or {}).items()}
    told.update(components(device, cameras))
    for name, component in told.items():
        if len(component) > 1:
            component["uniq_id"] = f"{topics.base}/{name}"
            component["qos"] = 0 if component["stat_t"] == topics.stats else 1
    about = {
        "ids": [topics.base],
        "name": device.name,
        "mf": "edge-agent",
        "mdl": device.board or None,
        "sw": device.version,
    }
    return msgspec.json.encode(
        {
            "dev": {key: value for key, value in about.items() if value},
            "o": {"name": "edge-agent", "sw": device.version},
            "avty": [{"t": topics.status, "val_tpl": "{{ value_json.state }}"}],
            "cmps": told,
        }
    )


def components(device: Device, cameras: Mapping[str, tuple[str, ...]]) -> dict[str, Component]:
    """Return the entities of `device` by their ids, which stay as long as the names of camera and label."""
    found = _of_device(device.topics)
    for camera, labels in cameras.items():
        found.update(_of_camera(device.topics, camera))
        for label in labels:
            found.update(_of_label(device.topics, camera, label))
    return found


def _of_device(topics: Topics) -> dict[str, Component]:
    diagnostic = {"ent_cat": "diagnostic"}
    number = {
        "p": "sensor",
        "stat_t": topics.stats,
        "stat_cla": "measurement",
        "exp_aft": EXPIRE_S,
        **diagnostic,
    }
    return {
        "connectivity": {
            "p": "binary_sensor",
            "name": "Connectivity",
            "dev_cla": "connectivity",
            "stat_t": topics.status,
            "val_tpl": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
            "avty": [],  # to be away is its state
            **diagnostic,
        },
        "problem": {
            "p": "binary_sensor",
            "name": "Problem",
            "dev_cla": "problem",
            "stat_t": topics.health,
            "val_tpl": "{{ 'OFF' if value_json.verdict == 'ok' else 'ON' }}",
            "json_attr_t": topics.health,
            "json_attr_tpl": "{{ {'verdict': value_json.verdict, 'reasons': value_json.reasons} | tojson }}",
            **diagnostic,
        },
        "fps": {
            **number,
            "name": "Inferences per second",
            "unit_of_meas": "Hz",
            "dev_cla": "frequency",
            "val_tpl": _number("edge_agent_inference_rate_total_hertz"),
            "sug_dsp_prc": 1,
        },
        "inference": {
            **number,
            "name": "Inference time",
            "unit_of_meas": "ms",
            "dev_cla": "duration",
            "val_tpl": _number("edge_agent_inference_p50_seconds", times=1000),
            "sug_dsp_prc": 1,
        },
        "temperature": {
            **number,
            "name": "Temperature",
            "unit_of_meas": "°C",
            "dev_cla": "temperature",
            "val_tpl": _number("edge_agent_hottest_celsius"),
            "sug_dsp_prc": 0,
        },
        "throttled": {
            "p": "binary_sensor",
            "name": "Throttled",
            "dev_cla": "problem",
            "stat_t": topics.stats,
            "val_tpl": "{{ 'ON' if value_json['values'].get('edge_agent_slowed') else 'OFF' }}",
            "exp_aft": EXPIRE_S,
            **diagnostic,
        },
        "model": {
            "p": "update",
            "name": "Model",
            "title": "Model",
            "stat_t": topics.model,
            "val_tpl": "{{ {'installed_version': value_json.installed_version,"
            " 'latest_version': value_json.latest_version, 'in_progress': value_json.in_progress,"
            " 'update_percentage': value_json.update_percentage} | tojson }}",
            "cmd_t": topics.command_update,
            "pl_inst": "install",
            "ent_cat": "config",
        },
    }


def _of_camera(topics: Topics, camera: str) -> dict[str, Component]:
    key, name = _safe(camera), _literal(camera)
    state = f"value_json.cameras.get({name}, {{}}).get('state', 'down')"
    command = (
        "{{ {'schema': 1, 'id': 'ha-' ~ (utcnow().timestamp() * 1000) | int ~ '-' ~ range(100000) | random,"
        f" 'expires': (utcnow() + timedelta(minutes={_VALID_MIN})).isoformat(),"
        " 'op': 'camera.enable' if value == 'ON' else 'camera.disable',"
        f" 'args': {{'camera': {name}}}}} | tojson }}}}"
    )
    return {
        f"{key}.connectivity": {
            "p": "binary_sensor",
            "name": f"{camera} connectivity",
            "dev_cla": "connectivity",
            "stat_t": topics.health,
            "val_tpl": f"{{{{ 'OFF' if {state} in {_AWAY} else 'ON' }}}}",
            "ent_cat": "diagnostic",
        },
        f"{key}.enabled": {
            "p": "switch",
            "name": f"{camera} detection",
            "stat_t": topics.camera_settings(camera),
            "val_tpl": "{{ 'ON' if value_json.enabled else 'OFF' }}",
            "cmd_t": topics.command,
            "cmd_tpl": command,
            "ent_cat": "config",
        },
        f"{key}.event": {
            "p": "event",
            "name": f"{camera} object",
            "stat_t": topics.events(camera),
            "evt_typ": ["new", "update", "end"],
            "val_tpl": "{{ {'event_type': value_json.type, 'event_id': value_json.event_id,"
            " 'label': value_json.label, 'score': value_json.score, 'box': value_json.box,"
            " 'zones': value_json.zones, 'stationary': value_json.stationary,"
            " 'start_time': value_json.start_time, 'end_time': value_json.end_time} | tojson }}",
        },
    }


def _of_label(topics: Topics, camera: str, label: str) -> dict[str, Component]:
    key, state = f"{_safe(camera)}.{_safe(label)}", topics.state(camera, label)
    return {
        f"{key}.occupancy": {
            "p": "binary_sensor",
            "name": f"{camera} {label}",
            "dev_cla": "occupancy",
            "stat_t": state,
            "val_tpl": "{{ 'ON' if value_json.active else 'OFF' }}",
        },
        f"{key}.count": {
            "p": "sensor",
            "name": f"{camera} {label} count",
            "stat_t": state,
            "stat_cla": "measurement",
            "val_tpl": "{{ value_json.count }}",
        },
    }


def _number(name: str, *, times: int = 1) -> str:
    """Return the template of a number of the statistics; one that is not there is unknown to Home Assistant."""
    value = f"value_json['values'].get('{name}')"
    shown = value if times == 1 else f"{value} * {times}"
    return f"{{{{ {shown} if {value} is number else none }}}}"


def _safe(name: str) -> str:
    """Return `name` where it can stand in an id, else with what can't replaced and a mark that keeps it unique."""
    replaced = _UNSAFE.sub("_", name)
    return name if replaced == name else f"{replaced}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _literal(text: str) -> str:
    """Return `text` as a string of Jinja, which reads escapes as Python does."""
    return json.dumps(text, ensure_ascii=False)
