"""Ansible as a controller has it: in a virtual environment of its own, kept in the user's cache (300 MB)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.hosts.lab import Lab

FOLDER = Path(__file__).parents[2] / "ansible"
_FETCH_S = 900
ENDS_S = 1500.0
"""A playbook that has not ended after so long hangs."""
_RECAP = re.compile(r"^(\S+)\s+: (ok=\d+.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Played:
    """What came of a playbook: `hosts` has the counts of its recap, such as changed, failed and unreachable."""

    rc: int
    text: str
    took_s: float

    @property
    def hosts(self) -> dict[str, dict[str, int]]:
        """The counts of each host."""
        pairs = (
            (name, dict(part.split("=") for part in counts.split()))
            for name, counts in _RECAP.findall(self.text)
        )
        return {name: {key: int(value) for key, value in counts.items()} for name, counts in pairs}

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something on each host."""
        return {name: counts["changed"] for name, counts in self.hosts.items()}

    def ok(self) -> Played:
        """Assert that it did not fail; return it."""
        assert self.rc == 0, self.text[-6000:]
        return self


def programs() -> Path:
    """Return the folder of Ansible's programs. Skips the test where they can't be fetched."""
    folder, missing = _fetched()
    if missing:
        pytest.skip(missing)
    return folder / "bin"


def environment() -> dict[str, str]:
    """Return the environment that Ansible's programs run in."""
    path = f"{programs()}:/usr/sbin:{os.environ['PATH']}"
    settings = {
        "ANSIBLE_CONFIG": str(FOLDER / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "LC_ALL": "C.UTF-8",
    }
    return {**os.environ, "PATH": path, **settings}


def start(lab: Lab, playbook: str, variables: Mapping[str, object], *options: str) -> subprocess.Popen[str]:
    """Start a playbook on the lab's hosts; its output is to be read."""
    command = ("ansible-playbook", "-e", json.dumps(variables), *options, f"playbooks/{playbook}.yml")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    return lab.start(*command, cwd=FOLDER, env=environment(), **pipes)


def play(
    lab: Lab, playbook: str, variables: Mapping[str, object], *options: str, timeout_s: float = ENDS_S
) -> Played:
    """Run a playbook on the lab's hosts to its end."""
    begin_s = time.monotonic()
    return finish(start(lab, playbook, variables, *options), begin_s, timeout_s)


def finish(process: subprocess.Popen[str], begin_s: float, timeout_s: float = ENDS_S) -> Played:
    """Wait for a playbook; past the limit it is ended."""
    try:
        text, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        raise AssertionError(f"no end within {timeout_s:g} s: {text[-4000:]}") from None
    return Played(process.returncode, text, time.monotonic() - begin_s)


@cache
def _fetched() -> tuple[Path, str]:
    """Return where Ansible is, and why it is not there; asked for once a run."""
    needs = FOLDER / "requirements.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent" / "tests"
    digest = hashlib.sha256(needs.read_bytes()).hexdigest()[:8]
    folder = cache / f"ansible-{digest}-py{sys.version_info[0]}.{sys.version_info[1]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "ansible.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return folder, ""
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--no-input", "--retries", "1", "-r"]
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, str(needs)]):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False)
            except subprocess.TimeoutExpired:
                return folder, f"Ansible can't be fetched: no end within {_FETCH_S} s"
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
                return folder, f"Ansible can't be fetched: {last}"
        (folder / "complete").touch()
    return folder, ""
