"""Rollouts, an upgrade, what is bad and stops at the canary, and the way back, on booted hosts: what CI runs.

Three hosts; EDGE_AGENT_TEST_FLEET=8 takes eight. The tests build upon one another, in this order; at the end every
event is accounted for.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import pytest

from tests.broken_models import make_bundle, sha_of
from tests.e2e.brokers import wait_for
from tests.fleet import ansible
from tests.fleet.checks import (
    everywhere,
    is_accounted_for,
    is_refused,
    model_of,
    stops_at_the_canary,
    told,
    untouched,
)
from tests.fleet.fleet import COUNT, SIGNER, UNIT, Fleet, process_of, release_of, status
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.releases import Releases
    from tests.hosts.host import Host

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

BACK_S = 60.0


def test_a_fresh_rollout(hosts: Fleet, first: Path) -> None:
    """From nothing to a service that sends events, on every host."""
    told(hosts.rollout(first).ok(), f"fresh rollout to {COUNT} hosts")
    everywhere(hosts, first)


def test_a_second_run_changes_nothing(hosts: Fleet, first: Path) -> None:
    """Nor does it start anything anew."""
    before = {host.name: process_of(host) for host in hosts.hosts}
    played = hosts.rollout(first).ok()
    told(played, "second run")
    assert set(played.changed.values()) == {0}, played.text
    assert {host.name: process_of(host) for host in hosts.hosts} == before


def test_an_upgrade_in_which_a_host_loses_power(hosts: Fleet, first: Path, second: Path) -> None:
    """The others get it; the one that died comes back with what it had, and the next run completes."""
    *_, last = hosts.hosts
    begin_s = time.monotonic()
    process = ansible.start(hosts.lab, "rollout", hosts.given(second))
    folder = last.root / "opt/edge-agent/versions" / second.name / "lib"
    wait_for(
        lambda: folder.exists() or process.poll() is not None, ansible.ENDS_S, "the last host to be at work"
    )
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


def test_a_dead_release_stops_at_the_canary(hosts: Fleet, releases: Releases, second: Path) -> None:
    """Its service ends at the start: the canary goes back by itself, and no other host is touched."""
    stops_at_the_canary(hosts, releases, second, "dead")


def test_a_good_model(hosts: Fleet, tmp_path: Path) -> None:
    """Signed, it is taken on by every running agent, without a restart."""
    model = make_bundle(tmp_path / "street", "street", version=2, key=SIGNER)
    before = {host.name: process_of(host) for host in hosts.hosts}
    told(hosts.play("models", edge_agent_model=str(model)).ok(), "model rollout")
    assert {status(host)["model"]["bundle_sha"] for host in hosts.hosts} == {sha_of(model)}
    assert {host.name: process_of(host) for host in hosts.hosts} == before
    hosts.wait_for_events()


def test_a_model_that_crashes_is_refused(hosts: Fleet, tmp_path: Path) -> None:
    """Its trial ends by a signal: the canary goes on with the good one, and no other host is touched."""
    is_refused(hosts, tmp_path, "crash")


def test_a_model_that_fails_at_work_halts_the_fleet(hosts: Fleet, tmp_path: Path) -> None:
    """It passes its trial: the canary is on the good one within a minute, and no other host is touched."""
    canary, model = hosts.hosts[0], make_bundle(tmp_path / "street", "late", version=4, key=SIGNER)
    good, before = model_of(canary), untouched(hosts)
    played = hosts.play("models", edge_agent_model=str(model), edge_agent_gate_timeout_s=40)
    assert played.rc
    assert list(played.hosts) == [canary.name]
    wait_for(lambda: model_of(canary) == good, HANGS_S, "the good model")
    assert untouched(hosts) == before
    hosts.wait_for_events(canary)
    at_work_s, back_s = since(canary, "runs from now on (pending)", f"Started {UNIT}")
    told(played, f"model that fails at work: the good one is back after {back_s - at_work_s:.1f} s; rollout")
    assert back_s - at_work_s <= BACK_S


def since(host: Host, *texts: str) -> list[float]:
    """Return when the unit has last told each of the texts, by the host's journal."""
    journal = host.run("journalctl", "--no-pager", "-o", "short-unix", "-u", UNIT).stdout.splitlines()
    return [max(float(line.split()[0]) for line in journal if text in line) for text in texts]


def test_a_rollback_while_the_broker_is_away(hosts: Fleet, first: Path) -> None:
    """It ends all the same, and what happened meanwhile arrives when the broker is back."""
    hosts.broker.down()
    try:
        played = hosts.play("rollback", edge_agent_gate_verdict="degraded").ok()
    finally:
        hosts.broker.up()
    told(played, "rollback without a broker")
    everywhere(hosts, first)


def test_all_hosts_start_anew(hosts: Fleet, first: Path) -> None:
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
    everywhere(hosts, first)


def test_every_event_is_accounted_for(hosts: Fleet) -> None:
    """Through all of that."""
    is_accounted_for(hosts)
