"""Secrets from files: the logins of cameras and broker, put where they are used and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from agent.errors import BadConfig, InputMissing
from agent.mqtt.options import MqttOptions
from agent.smallfile import read_small
from agent.strict import shorten

if TYPE_CHECKING:
    from agent.config import CameraConfig, MqttConfig

PASSWORD_BYTES, PEM_BYTES = 4096, 4 * 1024 * 1024


def source_url(camera: CameraConfig) -> str:
    """Return the source of `camera` with its login in it, percent-encoded. Not to be shown.

    Raises BadConfig, InputMissing or NotPermitted when its `password_file` can't be used.
    """
    if camera.username is None:
        return camera.source
    login = quote(camera.username, safe="")
    if camera.password_file is not None:
        login += ":" + quote(read_password(camera.password_file, key=f"camera {camera.name}"), safe="")
    scheme, _, rest = camera.source.partition("://")
    return f"{scheme}://{login}@{rest}"


def mqtt_options(mqtt: MqttConfig) -> MqttOptions:
    """Return how to reach the broker, with its password. Raises BadConfig, InputMissing or NotPermitted."""
    return MqttOptions(
        host=mqtt.host,
        port=mqtt.port or (8883 if mqtt.tls else 1883),
        username=mqtt.username,
        password=None if mqtt.password_file is None else read_password(mqtt.password_file, key="mqtt"),
        tls=mqtt.tls,
        ca_file=_readable(mqtt.ca_file, "mqtt.ca_file"),
        cert_file=_readable(mqtt.cert_file, "mqtt.cert_file"),
        key_file=_readable(mqtt.key_file, "mqtt.key_file"),
        client_id=mqtt.client_id,
        protocol=mqtt.protocol,
        keepalive_s=mqtt.keepalive_s,
    )


def read_password(name: str, *, key: str) -> str:
    """Return the first line of the file `name`, a path, or without a "/" a systemd credential.

    Nobody but its owner and group may use it. `key` says in faults whose it is. What was given without a "/"
    is not shown: people put the password itself there. Raises BadConfig, InputMissing or NotPermitted.
    """
    if "/" in name:
        path, what = Path(name), f"{key}: password_file {shorten(name, 120)}"
        missing = "write the password into this file, then chmod 640"
    else:
        what = f"{key}: password_file without a /, a systemd credential"
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        missing = "add LoadCredential= of that name to the service; a file beside the configuration is ./NAME"
        if not folder:
            raise InputMissing(what, seen="$CREDENTIALS_DIRECTORY is not set", fix=missing)
        path = Path(folder) / name
    text, mode = read_small(path, what=what, max_bytes=PASSWORD_BYTES, missing=missing)
    _refuse_open_to_all(path, mode, what)
    try:
        password = text.decode().split("\n", 1)[0].removesuffix("\r")
    except UnicodeDecodeError:
        password = ""
    if not password.isprintable() or not password:
        raise BadConfig(what, seen="no password in it", fix="its first line must be the password, in UTF-8")
    return password


def _refuse_open_to_all(path: Path, mode: int, what: str) -> None:
    if mode & stat.S_IRWXO:
        fix = f"chmod 640 {shorten(str(path), 120)}"
        raise BadConfig(what, seen=f"mode {stat.S_IMODE(mode):o}, open to everybody", fix=fix)


def _readable(name: str | None, key: str) -> Path | None:
    """Return the path when its file can be read, and if it is a key, by nobody else."""
    if name is None:
        return None
    path, what = Path(name), f"{key} {shorten(name, 120)}"
    _, mode = read_small(path, what=what, max_bytes=PEM_BYTES)
    if key == "mqtt.key_file":
        _refuse_open_to_all(path, mode, what)
    return path
