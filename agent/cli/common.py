"""What several commands share."""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.errors import NotPermitted, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from agent.bundle import Trust

EX_IOERR = 74
FILE = click.Path(path_type=Path, readable=False)
DEFAULT_CONFIG = Path("/etc/edge-agent/config.toml")


def default_state_dir() -> Path:
    """Return systemd's state directory, else the user's. Raises UsageError where there is none."""
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home) / "edge-agent"
    try:
        return Path.home() / ".local" / "state" / "edge-agent"
    except RuntimeError as error:
        fix = "set $HOME, or name one by state_dir (--state)"
        raise UsageError("no state directory: this user has no home", fix=fix) from error


def state_dir_of(config: Path | None) -> Path:
    """Return the state directory of the agent with this `config`, else the default one. Raises AgentError."""
    from agent.config.load import load_config

    return Path((config and load_config(config).state_dir) or default_state_dir())


def check_owner(state_dir: Path) -> None:
    """Raise NotPermitted for root where the agent is another user: that one could not change what root leaves."""
    if os.geteuid() == 0 and state_dir.is_dir() and (owner := state_dir.stat().st_uid) != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        fix = f"do it as that user: sudo -u {name} edge-agent ..."
        raise NotPermitted(f"root writes nothing to {state_dir}", seen=f"it belongs to {name}", fix=fix)


def bundle_of(model: Path | None, config: Path | None) -> Path:
    """Return `model`, else the one that the agent with this `config` runs: its own, the store's, the starter.

    Raises UsageError where its cameras have several, and what reading it raises.
    """
    from agent.config.load import load_config
    from agent.modelstore import FOLDER, ModelStore
    from agent.starter import starter_bundle

    if model is not None or config is None:
        return model or starter_bundle()
    loaded = load_config(config)
    store = ModelStore(Path(loaded.state_dir or default_state_dir()) / FOLDER)
    own = [camera.model for camera in loaded.camera if camera.enabled] or [None]
    found = dict.fromkeys(each or loaded.model or str(store.bundle() or starter_bundle()) for each in own)
    if len(found) > 1:
        raise UsageError(f"{config} has several models", seen=", ".join(found), fix="name one by --model")
    return Path(next(iter(found)))


def trust_of(config: Path | None) -> Trust:
    """Return whose bundles the agent with this `config` runs; without one it runs any. Raises as `read_trust`."""
    from agent.bundle import NOBODY
    from agent.bundle.trust import read_trust
    from agent.config.load import load_config

    return read_trust(load_config(config).models) if config is not None else NOBODY


def default_device() -> str:
    """Return the host name, with what MQTT topics can't hold replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()) or "edge"


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End with EX_IOERR, without a word, when nobody reads standard output any more; click would exit with 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(EX_IOERR) from None


def make_console(*, stderr: bool = False) -> Console:
    """Return rich's console, which raises BrokenPipeError when its reader has left; rich's own exits with 1.

    It calls `on_broken_pipe` where it catches that.
    """
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise

    return Piped(stderr=stderr, highlight=False, emoji=False)


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yield what SIGINT and SIGTERM set."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
