"""Where the agent that is to be the service lies, and whether the service could run it there."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import agent
from agent.errors import BadConfig, InputMissing
from agent.starter import service_files
from agent.system.plan import DEFAULT_PROGRAM

_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  what the unit hides
_FIX = "install it below /opt: python3 -m venv /opt/edge-agent, /opt/edge-agent/bin/pip install edge-agent"


def program(root: Path) -> str:
    """Return the path of `edge-agent` as the system below `root` will see it.

    Of one in `versions/NAME` that is the path by the link `current` beside `versions`, wherever it leads now, so
    that to switch releases is to change the link. An agent outside of `root` is not the one to run there: then it is
    DEFAULT_PROGRAM. Raises InputMissing when this agent has no such program, BadConfig when the service could not
    reach it.
    """
    script = Path(sys.prefix) / "bin" / "edge-agent"
    if root != Path("/"):
        inside = script.is_file() and script.resolve().is_relative_to(root.resolve())
        return f"/{_by_link(script.resolve()).relative_to(root.resolve())}" if inside else DEFAULT_PROGRAM
    if not script.is_file():
        raise InputMissing("no edge-agent program beside this Python", seen=script, fix=_FIX)
    for path in (script, Path(sys.executable).resolve(), Path(agent.__file__)):
        _check_reach(path)
    return str(_by_link(script))


def _by_link(script: Path) -> Path:
    versions = script.parent.parent.parent
    return versions.parent / "current/bin" / script.name if versions.name == "versions" else script


def sources() -> dict[str, str]:
    """Return the texts of `systemd/` by their names there. Raises InputMissing."""
    folder = service_files()
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def _check_reach(path: Path) -> None:
    """Raise BadConfig when the unit hides `path`, or only some users may come to it."""
    if hidden := next((place for place in _HIDDEN if path.is_relative_to(place)), None):
        raise BadConfig(f"the service can't see {hidden}, where edge-agent is installed", seen=path, fix=_FIX)
    for step in (path, *path.parents):
        mode = step.stat().st_mode
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            raise BadConfig(
                f"the service's user can't read {path}",
                seen=f"mode {stat.S_IMODE(mode):o} of {step}",
                fix=f"chmod -R a+rX {step}",
            )
