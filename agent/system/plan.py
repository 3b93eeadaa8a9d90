"""What the service consists of: a plan of files below the root of a system, made without looking at it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

USER = "edge-agent"
GROUPS = ("video", "render")
"""Those that device files of cameras and GPUs belong to."""
UNIT = "edge-agent.service"
DEFAULT_PROGRAM = "/opt/edge-agent/bin/edge-agent"
"""The program that systemd/edge-agent.service names."""
CONFIG_DIR, STATE_DIR = "etc/edge-agent", "var/lib/edge-agent"
CONFIG = f"{CONFIG_DIR}/config.toml"
VENDOR_DIR = "usr/local/lib"
"""Where systemd looks for what neither a package nor an administrator's hand has put there."""
CONF = "edge-agent.conf"
"""Of systemd-sysusers and systemd-tmpfiles."""
SERVICE = f"{VENDOR_DIR}/systemd/system/{UNIT}"
BOARD_DROP_IN = f"{SERVICE}.d/10-board.conf"
_SOURCES = {
    **{f"{VENDOR_DIR}/{name}": name for name in (f"sysusers.d/{CONF}", f"tmpfiles.d/{CONF}")},
    SERVICE: UNIT,
}
_STATE_LINE = re.compile(r'(?m)^#state_dir = "[^"]*" ?')
_PLAIN = re.compile(r"/[\w./@+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class File:
    """A file at `path`, relative to the root; `text` None: there is to be none. `yours`: written once, then kept."""

    path: str
    text: str | None
    yours: bool = False


def make_plan(sources: Mapping[str, str], *, program: str, drop_in: str, example: str) -> tuple[File, ...]:
    """Return the files of the service that runs `program`.

    `sources` are the texts of systemd/, by name; `drop_in` is the board's, "" for none; `example` a configuration.
    Raises BadConfig for a path that a unit can't hold as it is.
    """
    if not _PLAIN.fullmatch(program):
        fix = "install it where the path has letters, digits and . / @ + - _ only"
        raise BadConfig("path of edge-agent", seen=repr(program), fix=fix)
    texts = {path: sources[name] for path, name in _SOURCES.items()}
    texts[SERVICE] = texts[SERVICE].replace(DEFAULT_PROGRAM, program)
    return (
        *(File(path, text) for path, text in texts.items()),
        File(BOARD_DROP_IN, drop_in or None),
        File(CONFIG, _skeleton(example), yours=True),
    )


def removal() -> tuple[File, ...]:
    """Return the plan of a system without the service; configuration and state are not part of it."""
    return tuple(File(path, None) for path in (BOARD_DROP_IN, *_SOURCES))


def _skeleton(example: str) -> str:
    """Return `example` with the service's state directory, so that other commands find it as well."""
    return _STATE_LINE.sub(rf'state_dir = "/{STATE_DIR}"  ', example)
