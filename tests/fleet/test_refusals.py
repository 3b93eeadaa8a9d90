"""Devices that a rollout refuses, each with one clear reason and with nothing installed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fleet.fleet import Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fleet.releases import Releases
    from tests.hosts.base import Base

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

NARROW = """\
#!/bin/sh
exec /usr/bin/python3 -c '
import struct, sys
struct.calcsize = lambda _: 4
code, sys.argv = sys.argv[3], ["-c", *sys.argv[4:]]
exec(code)' "$@"
"""


@pytest.fixture(scope="module")
def hosts(base: Base) -> Iterator[Fleet]:
    with fleet(base, 1) as made:
        yield made


@pytest.fixture(scope="module")
def release(releases: Releases) -> Path:
    return releases.make("0.1.0")


def refused(hosts: Fleet, release: Path, reason: str, **more: object) -> None:
    """Assert that a rollout fails for `reason`, and leaves no agent there."""
    played = hosts.rollout(release, **more)
    assert played.rc
    assert reason in " ".join(played.text.split())
    assert hosts.hosts[0].run("sh", "-c", "ls -d /opt/edge-agent/versions/*/bin", check=False).returncode


def test_another_board(hosts: Fleet, release: Path) -> None:
    """The inventory says pi5: that is not this device."""
    refused(hosts, release, "the inventory says edge_agent_board: pi5, this is pc", edge_agent_board="pi5")


def test_a_board_that_there_is_not(hosts: Fleet, release: Path) -> None:
    """A name that the role does not know is refused before the device is asked."""
    refused(hosts, release, "edge_agent_board", edge_agent_board="pi9")


def test_an_unsupported_system(hosts: Fleet, release: Path) -> None:
    """Debian 11, by its /etc/os-release."""
    host = hosts.hosts[0]
    true = host.run("cat", "/etc/os-release").stdout
    old = 'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nID=debian\nVERSION_ID="11"\n'
    write = 'printf %s "$1" > /usr/lib/os-release'
    host.run("sh", "-c", write, "sh", old)
    try:
        refused(hosts, release, "unsupported system: Debian GNU/Linux 11 (bullseye)")
    finally:
        host.run("sh", "-c", write, "sh", true)


def test_a_32_bit_userland(hosts: Fleet, release: Path) -> None:
    """A Python whose pointers have 4 bytes."""
    host = hosts.hosts[0]
    host.run(
        "sh", "-c", 'printf %s "$1" > /usr/local/bin/narrow; chmod +x /usr/local/bin/narrow', "sh", NARROW
    )
    refused(hosts, release, "32-bit userland on x86_64", edge_agent_python="/usr/local/bin/narrow")


def test_a_release_for_another_machine(hosts: Fleet, release: Path, tmp_path: Path) -> None:
    """Wheels for aarch64 on a PC."""
    other = shutil.copytree(release, tmp_path / release.name)
    text = (other / "release.toml").read_text()
    (other / "release.toml").write_text(text.replace("x86_64", "aarch64"))
    refused(hosts, other, "this is Python 3.11 on x86_64; make one with: edge-agent fleet pack")


def test_too_little_space(hosts: Fleet, release: Path) -> None:
    """On /opt: told before anything is copied; where the assertion is switched off, at the copy."""
    host = hosts.hosts[0]
    host.run("mount", "-t", "tmpfs", "-o", "size=60m,mode=755", "tmpfs", "/opt")
    try:
        refused(hosts, release, "MB are free for /opt/edge-agent, 1500 are needed")
        refused(hosts, release, "No space left on device", edge_agent_min_free_mbytes=0)
    finally:
        host.run("umount", "/opt")


def test_after_all_that_it_is_installed(hosts: Fleet, release: Path) -> None:
    """What was refused has left nothing that is in the way."""
    hosts.rollout(release).ok()
    hosts.wait_for_events()
