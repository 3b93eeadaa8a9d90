"""Print as JSON what this device is, for the role's assertions: for any Python 3."""

import importlib.util
import json
import os
import shutil
import struct
import sys
from pathlib import Path


def _lines(path):
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def _os_release():
    pairs = (line.partition("=") for line in _lines("/etc/os-release") if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def _compatible():
    try:
        text = Path("/proc/device-tree/compatible").read_bytes()
    except OSError:
        return []
    return [entry for entry in text.decode(errors="replace").split("\0") if entry]


def _free_bytes(folder):
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


system = _os_release()
json.dump(
    {
        "os": system.get("ID", ""),
        "os_version": system.get("VERSION_ID", ""),
        "os_name": system.get("PRETTY_NAME", "an unknown system"),
        "machine": os.uname().machine,
        "userland_bits": struct.calcsize("P") * 8,
        "python": ".".join(map(str, sys.version_info[:2])),
        "has_venv": importlib.util.find_spec("venv") is not None
        and importlib.util.find_spec("ensurepip") is not None,
        "systemd": Path("/run/systemd/system").is_dir(),
        "compatible": _compatible(),
        "free_bytes": _free_bytes(Path(sys.argv[1])),
    },
    sys.stdout,
)
