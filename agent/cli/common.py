"""What several commands share."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import click

FILE = click.Path(path_type=Path)
DEFAULT_CONFIG = Path("/etc/edge-agent/config.toml")


def default_state_dir() -> Path:
    """Return systemd's state directory, else the user's."""
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "edge-agent"


def default_device() -> str:
    """Return the host name, with what MQTT topics can't hold replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()) or "edge"
