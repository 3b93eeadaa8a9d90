"""`config.toml`, read: bounded, checked as a whole, every path in it made absolute."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, TypeVar

import msgspec

from agent.config.checks import is_key_line
from agent.config.device import Config
from agent.errors import BadConfig
from agent.smallfile import read_small
from agent.strict import parse_toml, shorten, to_struct
from agent.urls import redact

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 256 * 1024
"""Largest file that is read: some 500 cameras."""
S = TypeVar("S", bound=msgspec.Struct)


def load_config(path: Path) -> Config:
    """Return what the file `path` says; relative paths in it are relative to its directory.

    Raises InputMissing or NotPermitted when it can't be read; BadConfig, in one line with the path of the key,
    when it is not a configuration, or holds a login and may be read by everybody.
    """
    where = shorten(str(path), 120)
    missing = "give one with --config; `edge-agent config example` prints one to start from"
    text, mode = read_small(path, what=f"configuration {where}", max_bytes=MAX_BYTES, missing=missing)
    config = parse_config(text, where=where)
    if mode & stat.S_IROTH:
        _check_no_login(config, where)
    return absolute(config, path.absolute().parent)


def parse_config(text: bytes, *, where: str = "config.toml") -> Config:
    """Return the configuration in `text`, TOML in UTF-8, its paths as they stand. Raises BadConfig."""
    tree = parse_toml(text, where=where, fault=BadConfig)
    return to_struct(tree, Config, where=where, fault=BadConfig)


def absolute(config: Config, folder: Path) -> Config:
    """Return `config` with every relative path taken from `folder`; `~` means nothing special.

    A `password_file` without a "/" is the name of a credential and stays; so do URLs, and the sink "-".
    """
    mqtt = config.mqtt and _absolute(config.mqtt, folder, "ca_file", "cert_file", "key_file")
    return msgspec.structs.replace(
        _absolute(config, folder, "model", "state_dir", *(() if config.sink == "-" else ("sink",))),
        mqtt=mqtt and _absolute(mqtt, folder, *_secret(mqtt.password_file)),
        models=msgspec.structs.replace(
            config.models,
            trusted_keys=tuple(
                key if is_key_line(key) else str(folder / key) for key in config.models.trusted_keys
            ),
        ),
        camera=tuple(
            _absolute(
                camera,
                folder,
                "model",
                *_secret(camera.password_file),
                *(() if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", camera.source) else ("source",)),
            )
            for camera in config.camera
        ),
    )


def _secret(name: str | None) -> tuple[str, ...]:
    return ("password_file",) if name is not None and "/" in name else ()


def _absolute(struct: S, folder: Path, *keys: str) -> S:
    paths = {key: getattr(struct, key) for key in keys}
    return msgspec.structs.replace(
        struct, **{key: str(folder / path) for key, path in paths.items() if path is not None}
    )


def _check_no_login(config: Config, where: str) -> None:
    for i, camera in enumerate(config.camera):
        if (source := redact(camera.source)) != camera.source:
            key = f"camera[{i}].source" if len(config.camera) > 1 else "camera.source"
            fix = "everybody may read this file: chmod 640, or use username and password_file"
            raise BadConfig(f"{where}: {key} ({camera.name})", seen=shorten(source), fix=fix)
