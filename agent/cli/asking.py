"""How commands find the agent that runs here, and have it do something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.cli.common import DEFAULT_CONFIG, FILE, default_state_dir
from agent.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.status import Status

Command = TypeVar("Command", bound="Callable[..., Any]")

SERVICE = Path("/run/edge-agent")
"""RuntimeDirectory of the systemd unit."""
_TEXTS = frozenset({"camera", "url", "sha256"})
"""A camera may be called 1."""
_DONE_S = 600.0
"""Longest wait for what a running agent does: a model may have to be opened first."""


def arguments(given: Iterable[str]) -> dict[str, object]:
    """Return KEY=VALUE ... as a table: JSON where a VALUE can be, else text, as names are always. Raises UsageError."""
    import msgspec

    table: dict[str, object] = {}
    for each in given:
        key, equals, text = each.partition("=")
        if not equals or not key or key in table:
            raise UsageError(
                "argument", seen=each, fix="write KEY=VALUE, each KEY once, like camera=yard or hz=2"
            )
        try:
            table[key] = text if key in _TEXTS else msgspec.json.decode(text)
        except msgspec.MsgspecError:
            table[key] = text
    return table


def of_agent(command: Command) -> Command:
    """Add the options that say which agent is meant: `config` and `state_dir`."""
    command = click.option(
        "--state", "state_dir", type=FILE, metavar="DIR", help="Ask the agent that has this state directory."
    )(command)
    return click.option(
        "--config", type=FILE, envvar="EDGE_AGENT_CONFIG", metavar="FILE", help="Ask the agent of this file."
    )(command)


def done_by(wanted: Path | None, op: str, args: Mapping[str, object]) -> Any:
    """Have the agent with the state directory `wanted` do `op`; return what came of it. Raises AgentError."""
    from agent.control import answered, ask

    folder, _ = running_agent(wanted)
    return answered(ask(folder, op, args, patience_s=_DONE_S))


def wanted_state_dir(config: Path | None) -> Path | None:
    """Return what the configuration says. Raises AgentError."""
    from agent.config.load import load_config

    if config is None:
        return None
    return Path(load_config(config).state_dir or default_state_dir())


def running_agent(wanted: Path | None) -> tuple[Path, Status]:
    """Return where the agent with the state directory `wanted` is asked, and its status; None: the first there is.

    Raises ServiceAway, NotPermitted.
    """
    import os

    from agent.control import SOCKET, ask, socket_folder
    from agent.errors import ServiceAway
    from agent.status import read

    def places() -> Iterator[Path]:
        if wanted:
            yield wanted
        yield from (socket_folder(SERVICE, os.environ), SERVICE)
        if not wanted:
            yield _usual_state_dir()  # reads the configuration: only when nobody has answered

    away: dict[Path, ServiceAway] = {}
    for folder in places():
        if folder in away:
            continue
        try:
            found = read(ask(folder, "status"))
        except ServiceAway as fault:
            away[folder] = fault
            continue
        if wanted in {None, folder} or Path(found.state_dir).resolve() == wanted.resolve():
            return folder, found
    if there := [fault for folder, fault in away.items() if (folder / SOCKET).exists()]:
        raise there[0]
    asked = " or ".join(str(folder / SOCKET) for folder in away)
    fix = "start it, or name its state directory with --state"
    raise ServiceAway(f"no agent answers on {asked}", seen=next(iter(away.values())).seen, fix=fix)


def _usual_state_dir() -> Path:
    """Return the state directory of `run` without options."""
    return (wanted_state_dir(DEFAULT_CONFIG) if DEFAULT_CONFIG.is_file() else None) or default_state_dir()
