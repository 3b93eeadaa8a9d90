"""`edge-agent system`: make the agent a service of this system, and undo that."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.errors import CannotCreate, InputMissing, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.system.changes import Change

log = logging.getLogger(__name__)

NEXT = """
Next:
  edit /etc/edge-agent/config.toml
  sudo -u edge-agent {program} check
  sudo systemctl enable edge-agent
  sudo systemctl restart edge-agent
  journalctl -fu edge-agent"""
NEXT_BELOW = """
Next:
  edit {root}/etc/edge-agent/config.toml
  sudo systemctl --root={root} enable edge-agent
and on the system itself, once it runs:
  sudo -u edge-agent {program} check
  journalctl -fu edge-agent"""


@click.group()
def system() -> None:
    """Make the agent a service of systemd, and undo that."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    root = click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("/"),
        metavar="DIR",
        help="Work on the system below DIR, such as a mounted SD card.",
    )
    dry_run = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
    return root(dry_run(command))


@system.command()
@_options
def install(root: Path, dry_run: bool) -> None:
    """Install unit, user, groups, a configuration to start from, and what this board's devices need.

    May be run again at any time: it changes what is not as it should be, and never the configuration. Exit
    codes: 66 no systemd there; 73 can't write; 77 not root; 78 the agent lies where a service can't reach it.
    """
    from agent.config.describe import example
    from agent.hardware import identify, read_facts
    from agent.hardware.files import read_text
    from agent.system import accounts, changes, devices, manager, origin
    from agent.system.plan import make_plan

    root = _checked(root, dry_run=dry_run)
    if root != Path("/"):
        manager.check_root(root)
    program = origin.program(root)
    board = identify(read_facts(root))
    plan = make_plan(
        origin.sources(),
        program=program,
        drop_in=devices.drop_in(board, devices.read_devices(root)),
        example=example(),
    )
    found = changes.find(plan, root)
    lacking = accounts.lacking(read_text(root / "etc/passwd") or "", read_text(root / "etc/group") or "")
    click.echo(f"board    {board.name}")
    _show(found, in_full=dry_run)
    for line in lacking:
        click.echo(f"new      {line}")
    if not found and not lacking:
        click.echo("nothing to change")
    if dry_run:
        return
    changes.carry_out(found, root)
    manager.take_on(root)
    if not (root / program.lstrip("/")).exists():
        log.warning("%s is not below %s yet: install edge-agent there, the service runs that", program, root)
    if found or lacking:
        below = root != Path("/")
        click.echo((NEXT_BELOW if below else NEXT).format(program=program, root=root))


@system.command()
@_options
@click.option("--purge", is_flag=True, help="Remove the configuration, the state and the user as well.")
def uninstall(root: Path, dry_run: bool, purge: bool) -> None:
    """Stop the service and remove what `install` has put there; configuration and state stay.

    Exit codes: 66 no systemd; 73 can't write; 77 not root.
    """
    from agent.hardware.files import read_text
    from agent.system import accounts, changes, manager
    from agent.system.plan import CONFIG_DIR, SERVICE, STATE_DIR, USER, removal

    root = _checked(root, dry_run=dry_run)
    found = changes.find(removal(), root)
    folders = [name for name in (CONFIG_DIR, STATE_DIR) if purge and changes.inside(root, name).is_dir()]
    user = purge and f"user {USER}" not in accounts.lacking(read_text(root / "etc/passwd") or "", "")
    _show(found)
    for name in folders:
        click.echo(f"gone     /{name} and all in it")
    if user:
        click.echo(f"gone     user {USER}")
    if not (found or folders or user):
        click.echo("nothing to change")
    if dry_run:
        return
    if found:
        if any(change.file.path == SERVICE for change in found):
            manager.stop(root)
        changes.carry_out(found, root)
        manager.read_units(root)
    for name in folders:
        _remove(root / name)
    if user:
        manager.remove_user(root)


def _checked(root: Path, *, dry_run: bool) -> Path:
    """Return `root` as a whole path. Raises InputMissing, NotPermitted."""
    from agent.system import manager

    if not root.is_dir():
        raise InputMissing("no such directory", seen=root, fix="give the root of a system with --root")
    if not dry_run:
        if os.geteuid():
            raise NotPermitted(
                "this changes the system: only root may", fix="use sudo, or look with --dry-run"
            )
        manager.check_programs()
    return root.resolve()


def _show(found: Sequence[Change], *, in_full: bool = False) -> None:
    from agent.system.changes import diff

    for change in found:
        click.echo(f"{change.what:8} /{change.file.path}")
        if change.what == "changed" or (in_full and change.what == "new"):
            click.echo(diff(change), nl=False)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise CannotCreate(f"can't remove {path}", seen=error.strerror or error) from error
