"""The role, the playbooks and the inventory of ansible/, as far as no device and no Ansible is needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).parents[3] / "ansible"
ROLE = FOLDER / "roles/edge_agent"


def load(name: str) -> ModuleType:
    """Return a module of the role: Ansible's controller and devices load it by its file, too."""
    path = ROLE / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filters() -> dict[str, Any]:
    """Return the role's filters by name."""
    found: dict[str, Any] = load("filter_plugins/edge_agent.py").FilterModule().filters()
    return found
