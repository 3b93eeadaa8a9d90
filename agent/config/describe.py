"""The configuration explained: the commented example, the JSON Schema, and what is in force."""

from __future__ import annotations

import copy
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent.config.device import Config
from agent.strict import dump_toml
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Collection

S = TypeVar("S", bound=msgspec.Struct)
_TABLE = re.compile(r"#?\[\[?([\w.]+)\]\]?(?: +# (.*))?")
_KEY = re.compile(r"#?(\w+) = .*? # (.*)")
_STRUCTS = {
    "": "Config",
    "mqtt": "MqttConfig",
    "outbox": "OutboxConfig",
    "metrics": "MetricsConfig",
    "commands": "CommandsConfig",
    "homeassistant": "HomeAssistantConfig",
    "models": "ModelsConfig",
    "limits": "LimitsConfig",
    "sampling": "Sampling",
    "detect": "Detect",
    "camera": "CameraConfig",
    "camera.detect.zones": "Zone",
}


def example() -> str:
    """Return a complete configuration, commented, that is valid as it stands."""
    return (files("agent.config") / "example.toml").read_text(encoding="utf-8")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `config.toml`; the example's comments are the descriptions of the keys."""
    schema = msgspec.json.schema(Config)
    for (struct, key), text in _comments().items():
        schema["$defs"][struct]["properties"][key]["description"] = text
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edge-agent config.toml",
        **schema,
    }


def effective(config: Config, *, credentials: Collection[str] = ()) -> str:
    """Return `config` as TOML with every default in it and no login; without logins `load_config` takes it back.

    A `password_file` without a "/" that is none of systemd's `credentials` may be the password itself: `***`.
    """

    def file(name: str | None) -> str | None:
        return name if name is None or "/" in name or name in credentials else "***"

    cameras = tuple(
        _with(each, source=redact(each.source), password_file=file(each.password_file))
        for each in config.camera
    )
    mqtt = config.mqtt and _with(config.mqtt, password_file=file(config.mqtt.password_file))
    return dump_toml(_with(config, camera=cameras, mqtt=mqtt)).decode()


def _with(struct: S, **values: object) -> S:
    """Return a copy with other values, which are shown and not checked."""
    made = copy.copy(struct)
    for name, value in values.items():
        msgspec.structs.force_setattr(made, name, value)
    return made


def _comments() -> dict[tuple[str, str], str]:
    """Return what the example says behind each key, by the name of its struct and itself."""
    found: dict[tuple[str, str], str] = {}
    table = ""
    for line in example().splitlines():
        if match := _TABLE.fullmatch(line):
            table = match[1]
            parent, _, key = table.rpartition(".")
            if match[2] and parent in _STRUCTS:
                found.setdefault((_STRUCTS[parent], key), match[2])
        elif (match := _KEY.fullmatch(line)) and table in _STRUCTS:
            found[_STRUCTS[table], match[1]] = match[2]
    return found
