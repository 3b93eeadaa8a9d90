"""The JSON Schemas of the payloads, version 1: generated from the structs that encode them, and shipped."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from agent import payloads

SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "event": payloads.EventMessage,
    "status": payloads.Status,
    "state": payloads.StateMessage,
    "stats": payloads.Stats,
    "gap": payloads.Gap,
    "health": payloads.Health,
    "camera": payloads.CameraSettings,
    "model": payloads.ModelUpdate,
    "model-available": payloads.ModelOffer,
    "command": payloads.Command,
    "command-result": payloads.CommandResult,
}
FOLDER = Path(__file__).parent / "schema"


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the payload `name` of SCHEMAS."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:edge-agent:{name}-v{payloads.SCHEMA_VERSION}",
        **_dedented(msgspec.json.schema(SCHEMAS[name])),
    }


def write_schemas(folder: Path = FOLDER) -> None:
    """Write every schema into `folder` as it is shipped: <name>-v1.schema.json."""
    for name in SCHEMAS:
        text = msgspec.json.format(msgspec.json.encode(json_schema(name), order="sorted"), indent=2)
        (folder / f"{name}-v{payloads.SCHEMA_VERSION}.schema.json").write_bytes(text + b"\n")


def _dedented(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema` with its texts as Python 3.13 gives docstrings, without their indentation."""
    whole: dict[str, Any] = {}
    for key, value in schema.items():
        if isinstance(value, dict):
            whole[key] = _dedented(value)
        else:
            whole[key] = cleandoc(value) if key == "description" and isinstance(value, str) else value
    return whole
