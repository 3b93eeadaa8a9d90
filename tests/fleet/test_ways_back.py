"""Rollouts, rollbacks and models that do not work out, on a device of its own: what it runs with afterwards.

The tests build upon one another, in this order; at the end every event is accounted for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.broken_models import make_bundle
from tests.e2e.brokers import wait_for
from tests.fleet import ansible
from tests.fleet.checks import BAD, everywhere, is_accounted_for, told
from tests.fleet.fleet import SIGNER, UNIT, Fleet, fleet, process_of, release_of
from tests.fleet.releases import DEAD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fleet.releases import Releases
    from tests.hosts.base import Base
    from tests.hosts.host import Host

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

GIVES_UP_S = 30


@pytest.fixture(scope="module")
def hosts(base: Base) -> Iterator[Fleet]:
    """Return a fleet of one device with nothing on it yet."""
    with fleet(base, 1) as made:
        yield made


@pytest.fixture(scope="module")
def dead(releases: Releases) -> Path:
    """Return a release whose service ends at the start."""
    version, patch, _ = BAD["dead"]
    return releases.make(version, patch)


def says(played: ansible.Played, text: str) -> None:
    """Assert that a playbook has failed, and said this at the end."""
    told(played, text)
    assert played.rc
    assert text in " ".join(played.text.split()), played.text[-6000:]


def is_settled(host: Host) -> bool:
    """Tell whether nothing is left of a switch that has to pass its gate."""
    return not any((host.root / "opt/edge-agent" / name).exists() for name in ("before.json", "fallback"))


def is_cut_off_ungated(hosts: Fleet, release: Path) -> None:
    """Kill a rollout of this release between its switch and its gate."""
    (host,) = hosts.hosts
    begin_s = time.monotonic()
    process = ansible.start(hosts.lab, "rollout", hosts.given(release))
    wait_for(
        lambda: process.poll() is not None or is_switched(host, release),
        ansible.ENDS_S,
        f"the switch to {release.name}",
    )
    process.kill()
    ansible.finish(process, begin_s)
    assert not is_settled(host)


def is_switched(host: Host, release: Path) -> bool:
    """Tell whether this is the device's current release."""
    current = host.root / "opt/edge-agent/current"
    return current.is_symlink() and current.readlink().name == release.name


def has_none(host: Host) -> None:
    """Assert that the device has no release, and a service that is off."""
    assert not (host.root / "opt/edge-agent/current").is_symlink()
    state = host.show(UNIT)
    assert (state["ActiveState"], state["UnitFileState"]) == ("inactive", "disabled")
    assert is_settled(host)


def test_a_first_release_that_is_dead_is_taken_away(hosts: Fleet, dead: Path) -> None:
    """There is nothing to go back to: no release is the current one, and the service is off."""
    none = "the device had no release before and has none now, the service is stopped"
    says(hosts.rollout(dead, edge_agent_gate_timeout_s=GIVES_UP_S), none)
    has_none(hosts.hosts[0])


def test_also_by_the_run_after_one_that_was_cut_off(hosts: Fleet, dead: Path) -> None:
    """That had switched to it, and not come to an end."""
    is_cut_off_ungated(hosts, dead)
    none = "the device had no release before and has none now, the service is stopped"
    says(hosts.rollout(dead, edge_agent_gate_timeout_s=GIVES_UP_S), none)
    has_none(hosts.hosts[0])


def test_then_a_good_one(hosts: Fleet, first: Path) -> None:
    """Nothing of all that is in its way."""
    told(hosts.rollout(first).ok(), "the good one")
    everywhere(hosts, first)
    assert is_settled(hosts.hosts[0])


def test_an_upgrade_that_was_cut_off_is_completed(hosts: Fleet, first: Path, second: Path) -> None:
    """By the next run, and what ran before is what a rollback goes to."""
    (host,) = hosts.hosts
    is_cut_off_ungated(hosts, second)
    told(hosts.rollout(second).ok(), "the run after one that was cut off")
    everywhere(hosts, second)
    assert is_settled(host)
    assert (host.root / "opt/edge-agent/previous").readlink().name == first.name


def test_a_rollback_that_fails_its_gate(hosts: Fleet, first: Path, second: Path) -> None:
    """The release before was damaged since: the one that works stays, and when that is mended the rollback works."""
    (host,) = hosts.hosts
    (name, more), *_ = DEAD.items()
    damaged = host.root / f"opt/edge-agent/versions/{first.name}/lib/python3.11/site-packages" / name
    good = damaged.read_text()
    damaged.write_text(good + more)
    says(hosts.play("rollback", edge_agent_gate_timeout_s=GIVES_UP_S), "went back to 0.2.0, ok")
    everywhere(hosts, second)
    assert is_settled(host)
    damaged.write_text(good)
    told(hosts.play("rollback").ok(), "rollback")
    everywhere(hosts, first)
    assert is_settled(host)


def test_a_configuration_alone_that_fails_its_gate(hosts: Fleet, first: Path) -> None:
    """Its camera is not there: the configuration before comes back."""
    config = hosts.hosts[0].root / "etc/edge-agent/config.toml"
    before = config.read_text()
    cameras = [{"name": "yard", "source": "/srv/lab/none.mp4"}]
    played = hosts.rollout(first, edge_agent_cameras=cameras, edge_agent_gate_timeout_s=GIVES_UP_S)
    says(played, "went back to 0.1.0, ok")
    assert config.read_text() == before
    assert release_of(hosts.hosts[0]) == first.name
    hosts.wait_for_events()


def test_a_model_in_quarantine_is_tried_again_when_told(hosts: Fleet, tmp_path: Path) -> None:
    """Without that the device refuses it at once; either way it goes on with the good one."""
    model = str(make_bundle(tmp_path / "street", "crash", version=3, key=SIGNER))
    before = process_of(hosts.hosts[0])
    says(hosts.play("models", edge_agent_model=model), "street 3 failed its trial")
    says(hosts.play("models", edge_agent_model=model), "street 3 is in quarantine")
    again = hosts.play("models", edge_agent_model=model, edge_agent_model_again=True)
    says(again, "street 3 failed its trial")
    assert process_of(hosts.hosts[0]) == before
    hosts.wait_for_events()


def test_every_event_is_accounted_for(hosts: Fleet) -> None:
    """Through all of that."""
    is_accounted_for(hosts)
