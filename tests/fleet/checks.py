"""What has to hold for a fleet after what was done to it, and what is bad that may be done to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.broken_models import break_signature, make_bundle
from tests.e2e.brokers import wait_for
from tests.fleet.fleet import SIGNER, process_of, release_of, status
from tests.fleet.releases import DEAD, SILENT, SLOW
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from tests.fleet.ansible import Played
    from tests.fleet.fleet import Fleet
    from tests.fleet.releases import Releases
    from tests.hosts.host import Host

_EVENTS = 10
"""At least so many come from each host until the end."""
BAD = {
    "dead": ("0.3.0", DEAD, {}),
    "slow": ("0.4.0", SLOW, {"edge_agent_gate_latency": 1.5}),
    "silent": ("0.5.0", SILENT, {"edge_agent_gate_fps": 0.8}),
}
"""Bad releases: version, patches, and the limits of the gate that are about them."""


def told(played: Played, what: str) -> None:
    """Print how long a playbook took."""
    print(f"{what}: {played.took_s:.0f} s")


def everywhere(hosts: Fleet, release: Path) -> None:
    """Assert that every host runs the release, and that events come from each."""
    assert {release_of(host) for host in hosts.hosts} == {release.name}
    assert {status(host)["version"] for host in hosts.hosts} == {release.name.partition("-")[0]}
    hosts.wait_for_events()


def untouched(hosts: Fleet) -> dict[str, tuple[str, str]]:
    """Return what must stay as it is on the hosts that are no canary."""
    return {host.name: (release_of(host), process_of(host)) for host in hosts.hosts[1:]}


def model_of(host: Host) -> str:
    """Return the sha of the bundle that runs; "" where no agent answers."""
    return str((status(host).get("model") or {}).get("bundle_sha", ""))


def stops_at_the_canary(hosts: Fleet, releases: Releases, good: Path, kind: str) -> None:
    """Assert that the canary goes back to `good` by itself from a bad release, and that no other host is touched."""
    version, patch, limits = BAD[kind]
    before, bad = untouched(hosts), releases.make(version, patch)
    played = hosts.rollout(bad, edge_agent_gate_timeout_s=60, **limits)
    told(played, f"{kind} release: noticed, and gone back from")
    assert played.rc
    assert list(played.hosts) == [hosts.hosts[0].name]
    assert release_of(hosts.hosts[0]) == good.name
    assert untouched(hosts) == before
    everywhere(hosts, good)


def is_refused(hosts: Fleet, folder: Path, kind: str) -> None:
    """Assert that the canary goes on with its model when it gets a bad one, and that no other host is touched."""
    canary, version = hosts.hosts[0], 1 if kind == "older" else 3
    network = kind if kind in {"crash", "nan", "slow"} else "street"
    model = make_bundle(folder / "street", network, version=version, key=SIGNER)
    if kind == "signature":
        break_signature(model)
    good, before = model_of(canary), (process_of(canary), untouched(hosts))
    played = hosts.play("models", edge_agent_model=str(model))
    assert played.rc
    assert list(played.hosts) == [canary.name]
    assert model_of(canary) == good
    assert (process_of(canary), untouched(hosts)) == before
    told(played, f"bad model, {kind}: refused, the good one never left")
    hosts.wait_for_events(canary)


def is_accounted_for(hosts: Fleet) -> None:
    """Assert that of all that the agents have committed since the beginning nothing is missing that no gap explains."""
    verdict = hosts.account()
    print(json.dumps(verdict.as_dict()))
    assert verdict.received > _EVENTS * len(hosts.hosts)
    assert verdict.lost == 0, verdict
    assert verdict.sound, verdict
    wait_for(lambda: hosts.reader.count >= verdict.received, HANGS_S, "the other subscriber to have as many")
    summary = hosts.reader.finish()
    assert (summary["code"], summary["events"], summary["missing"]) == (0, verdict.received, [])
