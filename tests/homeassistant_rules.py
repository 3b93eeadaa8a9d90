"""Home Assistant's rules for a discovery message, as of 2025.4, and its templates, rendered as it does.

The keys are those of the schemas in homeassistant/components/mqtt (schemas.py and each platform's), in their short
form; the real schemas were run over our message by hand.
"""

from __future__ import annotations

import functools
import json
import random
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

TOPIC = re.compile(r"[\w-]+(/[\w-]+)*/device/[a-zA-Z0-9_-]+/config")
_COMMON = {
    "p", "uniq_id", "name", "stat_t", "val_tpl", "qos", "avty", "ent_cat", "dev_cla", "json_attr_t", "json_attr_tpl"
}  # fmt: skip
_KEYS = {
    "binary_sensor": {"pl_on", "pl_off", "off_dly", "exp_aft"},
    "sensor": {"unit_of_meas", "stat_cla", "sug_dsp_prc", "exp_aft"},
    "event": {"evt_typ"},
    "switch": {"cmd_t", "cmd_tpl", "pl_on", "pl_off", "stat_on", "stat_off"},
    "update": {"cmd_t", "pl_inst", "title", "l_ver_t", "l_ver_tpl"},
}
_CLASSES = {
    "binary_sensor": {"connectivity", "problem", "occupancy"},
    "sensor": {"frequency", "duration", "temperature"},
}
_UPDATE_KEYS = {"installed_version", "latest_version", "title", "in_progress", "update_percentage"}
_MAX_RANGE = 100_000


def check(topic: str, payload: bytes) -> dict[str, dict[str, Any]]:
    """Assert that `payload` on `topic` is a message that Home Assistant takes whole; return its components."""
    assert TOPIC.fullmatch(topic)
    message = json.loads(payload)
    assert message.keys() == {"dev", "o", "avty", "cmps"}
    assert message["dev"]["ids"]
    assert message["o"]["name"]
    for each in message["avty"]:
        assert each.keys() == {"t", "val_tpl"}
    components = message["cmps"]
    whole = {name: each for name, each in components.items() if set(each) != {"p"}}
    for name, each in components.items():
        assert " " not in name
        assert each["p"] in _KEYS
    for each in whole.values():
        assert each.keys() <= _COMMON | _KEYS[each["p"]], each
        assert each["dev_cla"] in _CLASSES[each["p"]] if "dev_cla" in each else True
        assert each.get("ent_cat", "config") in {"config", "diagnostic"}
        assert each["stat_t"]
        assert "+" not in each["stat_t"]
        assert "#" not in each["stat_t"]
        for key in each:
            if key.endswith("_tpl"):
                assert len(each[key]) < 2000
    ids = [each["uniq_id"] for each in whole.values()]
    assert len(set(ids)) == len(ids)
    return whole


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return Home Assistant's environment, as far as it is used here."""
    made = ImmutableSandboxedEnvironment()
    made.globals |= {"utcnow": lambda: datetime.now(timezone.utc), "timedelta": timedelta}
    made.filters["random"] = lambda values: random.choice(list(values))
    return made


def render(template: str, payload: bytes) -> str:
    """Return what Home Assistant makes of `payload`."""
    text = payload.decode()
    return environment().from_string(template).render(value=text, value_json=json.loads(text)).strip()


def command(template: str, value: str) -> dict[str, Any]:
    """Return what Home Assistant sends for `value`."""
    return dict(json.loads(environment().from_string(template).render(value=value)))


def state(component: dict[str, Any], payload: bytes) -> Any:
    """Return the state that `component` has after `payload`; None: unknown. Asserts that it is one it can have."""
    shown = render(component["val_tpl"], payload)
    if component["p"] in {"binary_sensor", "switch"}:
        assert shown in {"ON", "OFF"}
        return shown == "ON"
    if component["p"] == "sensor":
        return None if shown == "None" else float(shown)
    fields = json.loads(shown)
    if component["p"] == "event":
        assert fields.pop("event_type") in component["evt_typ"]
    else:
        assert fields.keys() <= _UPDATE_KEYS
        assert all(isinstance(fields[key], str) for key in ("installed_version", "latest_version"))
        assert isinstance(fields["in_progress"], bool)
    return fields
