"""The role's variables are those of the agent's configuration, and all are told in one place."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from agent.config import Config
from tests.unit.ansible import FOLDER, ROLE

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the tools of calibration")
SPEC = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
OF_THE_ROLE = {
    "release", "python", "board", "min_free_mbytes", "keep_releases", "check", "credentials", "files", "model",
    "model_again",
}  # fmt: skip
NAMES = {"model": "model_path", "camera": "cameras"}
"""Keys of the configuration whose variables have other names."""
TYPES = {
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "string": "str",
    "object": "dict",
    "array": "list",
}
"""Of JSON Schema and of Ansible."""
SCHEMA = msgspec.json.schema(Config)


def test_every_key_of_the_configuration_has_its_typed_variable() -> None:
    """What config.toml can say, the inventory can, with the same type; and nothing else."""
    keys = _resolved(SCHEMA)["properties"]
    wanted = {NAMES.get(key, key): kind for key, kind in keys.items() if key != "state_dir"}
    given = {name.removeprefix("edge_agent_"): option for name, option in SPEC.items()}
    assert given.keys() - OF_THE_ROLE == wanted.keys()
    for name, kind in wanted.items():
        _compare(given[name], _resolved(kind), name)


def _resolved(kind: dict[str, Any]) -> dict[str, Any]:
    """Return the schema behind references, without the null of what may be left out."""
    for choice in kind.get("anyOf", ()):
        if choice.get("type") != "null":
            return _resolved(choice)
    if "$ref" in kind:
        found: dict[str, Any] = SCHEMA["$defs"][kind["$ref"].rpartition("/")[2]]
        return found
    return kind


def _compare(option: dict[str, Any], kind: dict[str, Any], name: str) -> None:
    if "enum" in kind:
        assert sorted(option["choices"]) == sorted(kind["enum"]), name
        return
    assert option["type"] == TYPES[kind["type"]], name
    table = _resolved(kind.get("items", {})) if kind["type"] == "array" else kind
    fields = table.get("properties", {})
    assert option.get("options", {}).keys() == fields.keys(), name
    for key, field in fields.items():
        _compare(option["options"][key], _resolved(field), f"{name}.{key}")


def test_every_variable_has_a_place_in_the_example() -> None:
    """Each variable of the role, and each key of its tables, stands in the example's inventory."""
    text = (FOLDER / "inventory/example/group_vars/edge_agents/main.yml").read_text()
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    internal = {"edge_agent_gate_version", "edge_agent_purge", "edge_agent_clips_there"}
    internal |= {"edge_agent_model_program", "edge_agent_model_config", "edge_agent_gate_compares"}
    for name in (SPEC.keys() | defaults.keys()) - internal:
        assert re.search(rf"(?m)^#?{name}:", text), name
    for name, option in SPEC.items():
        for key in option.get("options", {}):
            assert re.search(rf"\b{key}: ", text), f"{name}.{key}"


def test_the_variables_in_the_example_are_the_roles() -> None:
    """The example names no variable that there is not."""
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    for path in (FOLDER / "inventory/example/group_vars").rglob("*.yml"):
        for name in re.findall(r"(?m)^#?(edge_agent_\w+):", path.read_text()):
            assert name in SPEC or name in defaults, f"{path.name}: {name}"


def test_the_look_at_a_device_is_one_json_document() -> None:
    """What the assertions go by is told by any Python 3, for a folder that is not there yet, too."""
    look = (ROLE / "files/look.py").read_text()
    done = subprocess.run(
        [sys.executable, "-I", "-c", look, "/opt/edge-agent/not/there"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["userland_bits"] == 64
    assert seen["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert seen["free_bytes"] > 0
