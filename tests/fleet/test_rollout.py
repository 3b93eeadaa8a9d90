"""Rollouts, upgrades, bad releases, bad models and accidents on booted hosts, and every event accounted for at the end.

Three hosts; EDGE_AGENT_TEST_FLEET=8 takes eight. The tests build upon one another, in this order.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calibration.keys import new_key
from tests.broken_models import break_signature, make_bundle, sha_of
from tests.e2e.brokers import wait_for
from tests.fleet import ansible
from tests.fleet.fleet import UNIT, Fleet, fleet, process_of, release_of, status
from tests.fleet.releases import DEAD, SILENT, SLOW, Releases
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fleet.ansible import Played
    from tests.hosts.base import Base
    from tests.hosts.host import Host

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

COUNT = int(os.environ.get("EDGE_AGENT_TEST_FLEET", "3"))
KEY = new_key()
BACK_S = 60.0


@pytest.fixture(scope="module")
def hosts(base: Base) -> Iterator[Fleet]:
    keys = {"trusted_keys": [KEY.public.line], "require_signature": True}
    with fleet(base, COUNT, edge_agent_models=keys) as made:
        yield made


@pytest.fixture(scope="module")
def first(releases: Releases) -> Path:
    return releases.make("0.1.0")


@pytest.fixture(scope="module")
def second(releases: Releases) -> Path:
    return releases.make("0.2.0")


def everywhere(hosts: Fleet, release: Path) -> None:
    """Assert that every host runs the release, and that events come from each."""
    assert {release_of(host) for host in hosts.hosts} == {release.name}
    assert {status(host)["version"] for host in hosts.hosts} == {release.name.partition("-")[0]}
    hosts.wait_for_events()


def untouched(hosts: Fleet) -> dict[str, tuple[str, str]]:
    """Return what must stay as it is on the hosts that are no canary."""
    return {host.name: (release_of(host), process_of(host)) for host in hosts.hosts[1:]}


def told(played: Played, what: str) -> None:
    """Print how long a playbook took."""
    print(f"{what}: {played.took_s:.0f} s")


def test_a_fresh_rollout(hosts: Fleet, first: Path) -> None:
    """From nothing to a service that sends events, on every host."""
    told(hosts.rollout(first).ok(), f"fresh rollout to {COUNT} hosts")
    everywhere(hosts, first)


def test_a_second_run_changes_nothing(hosts: Fleet, first: Path) -> None:
    """Nor does it start anything anew; `--check` says the same."""
    before = {host.name: process_of(host) for host in hosts.hosts}
    played = hosts.rollout(first).ok()
    told(played, "second run")
    assert set(played.changed.values()) == {0}, played.text
    assert set(hosts.rollout(first, "--check", "--diff").ok().changed.values()) == {0}
    assert {host.name: process_of(host) for host in hosts.hosts} == before


def test_an_upgrade_in_which_a_host_loses_power(hosts: Fleet, first: Path, second: Path) -> None:
    """The others get it; the one that died comes back with what it had, and the next run completes."""
    *_, last = hosts.hosts
    begin_s = time.monotonic()
    process = ansible.start(hosts.lab, "rollout", hosts.given(second))
    folder = last.root / "opt/edge-agent/versions" / second.name / "lib"
    wait_for(lambda: folder.exists() or process.poll() is not None, 900, "the last host to be at work")
    hosts.lab.link(last, "down")
    last.power_cut()
    played = ansible.finish(process, begin_s)
    told(played, "upgrade in which one lost its power")
    assert played.rc
    assert played.hosts[last.name]["unreachable"] == 1
    assert {release_of(host) for host in hosts.hosts[:-1]} == {second.name}
    last.boot()
    hosts.lab.link(last, "up")
    wait_for(functools.partial(hosts.lab.answers, last), HANGS_S, f"{last.name} by SSH")
    hosts.wait_for_events(last)
    assert release_of(last) == first.name
    told(hosts.rollout(second).ok(), "the run after it")
    everywhere(hosts, second)


BAD = {
    "dead": ("0.3.0", DEAD, {}),
    "slow": ("0.4.0", SLOW, {"edge_agent_gate_latency": 1.5}),
    "silent": ("0.5.0", SILENT, {"edge_agent_gate_fps": 0.8}),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_release_stops_at_the_canary(hosts: Fleet, releases: Releases, second: Path, kind: str) -> None:
    """The canary goes back by itself, and no other host is touched; the gate looks at what is bad."""
    version, patch, limits = BAD[kind]
    before, bad = untouched(hosts), releases.make(version, patch)
    played = hosts.rollout(bad, edge_agent_gate_timeout_s=60, **limits)
    told(played, f"{kind} release: noticed, and gone back from")
    assert played.rc
    assert list(played.hosts) == [hosts.hosts[0].name]
    assert release_of(hosts.hosts[0]) == second.name
    assert untouched(hosts) == before
    everywhere(hosts, second)


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
    """Signed, it is taken on by every running agent, without a restart."""
    model = make_bundle(tmp_path / "street", "street", version=2, key=KEY)
    before = {host.name: process_of(host) for host in hosts.hosts}
    told(hosts.play("models", edge_agent_model=str(model)).ok(), "model rollout")
    assert {status(host)["model"]["bundle_sha"] for host in hosts.hosts} == {sha_of(model)}
    assert {host.name: process_of(host) for host in hosts.hosts} == before
    hosts.wait_for_events()


@pytest.mark.parametrize("kind", ["crash", "nan", "slow", "signature", "older"])
def test_a_bad_model_halts_the_fleet(hosts: Fleet, tmp_path: Path, kind: str) -> None:
    """The canary is on the good one within a minute, and no other host is touched."""
    canary, version = hosts.hosts[0], 1 if kind == "older" else 3
    network = kind if kind in {"crash", "nan", "slow"} else "street"
    model = make_bundle(tmp_path / "street", network, version=version, key=KEY)
    if kind == "signature":
        break_signature(model)
    good, before = status(canary)["model"]["bundle_sha"], untouched(hosts)
    played = hosts.play("models", edge_agent_model=str(model))
    assert played.rc
    assert list(played.hosts) == [canary.name]
    assert status(canary)["model"]["bundle_sha"] == good
    print(
        f"bad model, {kind}: refused, the good one at work, {played.took_s:.0f} s after the start of the rollout"
    )
    assert untouched(hosts) == before
    hosts.wait_for_events(canary)


def test_a_rollback_while_the_broker_is_away(hosts: Fleet, first: Path) -> None:
    """It ends all the same, and what happened meanwhile arrives when the broker is back."""
    hosts.broker.down()
    try:
        played = hosts.play("rollback", edge_agent_gate_verdict="degraded").ok()
    finally:
        hosts.broker.up()
    told(played, "rollback without a broker")
    everywhere(hosts, first)


def test_an_interrupted_connection(hosts: Fleet, second: Path) -> None:
    """SSH is cut off in the middle: the agent goes on, and the rollout or the next one completes."""
    canary = hosts.hosts[0]
    begin_s = time.monotonic()
    process = ansible.start(hosts.lab, "rollout", hosts.given(second))
    wait_for(lambda: sessions(canary) or process.poll() is not None, 300, "a connection")
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
    host.run("systemctl", "restart", UNIT, timeout_s=HANGS_S)
    wait_for(
        lambda: "certificate" in json.dumps(status(host)), HANGS_S, "the status to tell of the certificate"
    )
    host.run("sh", "-c", f"rm -r {drop_in}; systemctl daemon-reload")
    host.run("systemctl", "restart", UNIT, timeout_s=HANGS_S)
    hosts.wait_for_events(host)


def test_all_hosts_start_anew(hosts: Fleet, second: Path) -> None:
    """After a power cut of all of them, each is there by itself with what it had."""
    for host in hosts.hosts:
        host.power_cut()
    begin_s = time.monotonic()
    for host in hosts.hosts:
        host.switch_on()
    for host in hosts.hosts:
        host.wait_booted()
    hosts.wait_for_events()
    print(f"power -> events of all {COUNT}: {time.monotonic() - begin_s:.0f} s")
    everywhere(hosts, second)


def test_every_event_is_accounted_for(hosts: Fleet) -> None:
    """Of all that the agents have committed since the beginning, nothing is missing that no gap explains."""
    verdict = hosts.account()
    print(json.dumps(verdict.as_dict()))
    assert verdict.received > 20 * COUNT
    assert verdict.lost == 0, verdict
    assert verdict.sound, verdict
    wait_for(lambda: hosts.reader.count >= verdict.received, HANGS_S, "the other subscriber to have as many")
    summary = hosts.reader.finish()
    assert (summary["code"], summary["events"], summary["missing"]) == (0, verdict.received, [])
