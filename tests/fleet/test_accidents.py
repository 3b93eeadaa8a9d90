"""Accidents during and after rollouts on booted hosts, and what else is bad and must stop at the canary.

Three hosts; EDGE_AGENT_TEST_FLEET=8 takes eight. The tests build upon one another, in this order; at the end every
event is accounted for.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.broken_models import make_bundle
from tests.e2e.brokers import wait_for
from tests.fleet import ansible
from tests.fleet.checks import everywhere, is_accounted_for, is_refused, stops_at_the_canary, told
from tests.fleet.fleet import SIGNER, UNIT, Fleet, process_of, status
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.releases import Releases
    from tests.hosts.host import Host

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_it_is_rolled_out(hosts: Fleet, first: Path) -> None:
    """What all the rest begins with."""
    hosts.rollout(first).ok()
    everywhere(hosts, first)


def test_a_look_ahead(hosts: Fleet, first: Path, second: Path) -> None:
    """`--check --diff`: nothing to do for what is installed; tells what an upgrade would do, and does none of it."""
    before = {host.name: process_of(host) for host in hosts.hosts}
    assert set(hosts.rollout(first, "--check", "--diff").ok().changed.values()) == {0}
    assert min(hosts.rollout(second, "--check", "--diff").ok().changed.values()) > 0
    assert {host.name: process_of(host) for host in hosts.hosts} == before
    everywhere(hosts, first)


def test_an_upgrade(hosts: Fleet, second: Path) -> None:
    """The canary first, and then the others."""
    told(hosts.rollout(second).ok(), "upgrade")
    everywhere(hosts, second)


@pytest.mark.parametrize("kind", ["slow", "silent"])
def test_a_bad_release_stops_at_the_canary(hosts: Fleet, releases: Releases, second: Path, kind: str) -> None:
    """It runs, and the gate sees what is bad: the canary goes back by itself, and no other host is touched."""
    stops_at_the_canary(hosts, releases, second, kind)


def test_a_configuration_that_is_refused_is_never_installed(hosts: Fleet, second: Path) -> None:
    """The one before stays in force, and the process goes on."""
    canary = hosts.hosts[0]
    before = process_of(canary), canary.run("cat", "/etc/edge-agent/config.toml").stdout
    played = hosts.rollout(second, edge_agent_detect={"labels": ["unicorn"]})
    assert played.rc
    assert "unicorn" in played.text
    assert list(played.hosts) == [canary.name]
    assert (process_of(canary), canary.run("cat", "/etc/edge-agent/config.toml").stdout) == before


def test_a_good_model(hosts: Fleet, tmp_path: Path) -> None:
    """What the older one is older than."""
    model = make_bundle(tmp_path / "street", "street", version=2, key=SIGNER)
    hosts.play("models", edge_agent_model=str(model)).ok()


@pytest.mark.parametrize("kind", ["nan", "slow", "signature", "older"])
def test_a_bad_model_is_refused(hosts: Fleet, tmp_path: Path, kind: str) -> None:
    """The canary goes on with the good one, and no other host is touched."""
    is_refused(hosts, tmp_path, kind)


def test_an_interrupted_connection(hosts: Fleet, second: Path) -> None:
    """SSH is cut off in the middle: the agent goes on, and the rollout or the next one completes."""
    canary = hosts.hosts[0]
    begin_s = time.monotonic()
    process = ansible.start(hosts.lab, "rollout", hosts.given(second))
    wait_for(lambda: sessions(canary) or process.poll() is not None, ansible.ENDS_S, "a connection")
    canary.run("kill", *sessions(canary), check=False)
    played = ansible.finish(process, begin_s)
    told(played, f"rollout with a connection cut off, code {played.rc}")
    hosts.wait_for_events()
    if played.rc:
        hosts.rollout(second).ok()
    everywhere(hosts, second)


def sessions(host: Host) -> list[str]:
    """Return the processes of the host's SSH sessions."""
    return host.run("pgrep", "-f", "^sshd: pi", check=False).stdout.split()


def test_a_key_that_is_damaged_is_never_installed(hosts: Fleet, second: Path) -> None:
    """The file beside the configuration stays as it was, so that the agent also starts again with it."""
    canary = hosts.hosts[0]
    key = canary.root / "etc/edge-agent/client.key"
    before = process_of(canary), key.read_bytes()
    files = {**hosts.variables["edge_agent_files"], "client.key": "damaged\n"}
    played = hosts.rollout(second, edge_agent_files=files)
    assert played.rc
    assert "the configuration is refused" in " ".join(played.text.split())
    assert list(played.hosts) == [canary.name]
    assert (process_of(canary), key.read_bytes()) == before


def test_a_setting_of_a_camera_needs_no_new_start(hosts: Fleet, second: Path) -> None:
    """It is tried out, and the same processes read the configuration again; a rollback undoes that alone."""
    config = hosts.hosts[0].root / "etc/edge-agent/config.toml"
    before = {host.name: process_of(host) for host in hosts.hosts}
    played = hosts.rollout(second, edge_agent_sampling={"mode": "uniform", "hz": 0.9}).ok()
    assert "Assert that it is good" in played.text
    assert "hz = 0.9" in config.read_text()
    assert {host.name: process_of(host) for host in hosts.hosts} == before
    hosts.play("rollback").ok()
    assert "hz = 1.0" in config.read_text()
    everywhere(hosts, second)


def test_a_clock_that_is_off_by_a_year(hosts: Fleet, wall_clock: Path) -> None:
    """TLS refuses the broker's certificate, the status says so, and what happened arrives once the clock is right."""
    host = hosts.hosts[-1]
    drop_in = f"/run/systemd/system/{UNIT}.d"
    (host.root / "opt/wall_clock.so").write_bytes(wall_clock.read_bytes())
    (host.root / "opt/wall_shift").write_bytes((366 * 86_400 * 10**9).to_bytes(8, "little"))
    settings = "[Service]\nEnvironment=LD_PRELOAD=/opt/wall_clock.so WALL_SHIFT=/opt/wall_shift\n"
    host.run(
        "sh", "-c", f"mkdir -p {drop_in}; printf '{settings}' > {drop_in}/clock.conf; systemctl daemon-reload"
    )
    host.run("systemctl", "restart", UNIT)
    wait_for(
        lambda: "certificate" in json.dumps(status(host)), HANGS_S, "the status to tell of the certificate"
    )
    host.run("sh", "-c", f"rm -r {drop_in}; systemctl daemon-reload")
    host.run("systemctl", "restart", UNIT)
    hosts.wait_for_events(host)


def test_every_event_is_accounted_for(hosts: Fleet) -> None:
    """Through all of that."""
    is_accounted_for(hosts)
