"""The user and groups that the service lacks, by /etc/passwd and /etc/group. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.system.plan import GROUPS, USER

if TYPE_CHECKING:
    from collections.abc import Iterator


def lacking(passwd: str, group: str) -> tuple[str, ...]:
    """Return what systemd-sysusers will make, one line each; none: all is there."""
    return tuple(_lacking(passwd, group))


def _lacking(passwd: str, group: str) -> Iterator[str]:
    members = {fields[0]: fields[3].split(",") for fields in _rows(group) if len(fields) > 3}
    if USER not in (fields[0] for fields in _rows(passwd)):
        yield f"user {USER}"
    for name in GROUPS:
        if name not in members:
            yield f"group {name}"
        if USER not in members.get(name, ()):
            yield f"user {USER} in group {name}"


def _rows(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.splitlines()]
