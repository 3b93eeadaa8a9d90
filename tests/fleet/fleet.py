"""A lab with a broker and listeners, whose hosts are a fleet: rolled out to by Ansible, listened to all the time."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.keys import new_key
from tests.e2e.brokers import wait_for
from tests.faults.oracle import Oracle
from tests.faults.outboxfile import read_accounts
from tests.faults.witness import FENCE
from tests.fleet.ansible import Played, play
from tests.fleet.listeners import Reader, reader, witness
from tests.hosts.lab import CONTROLLER, Lab, lab
from tests.hosts.tlsbroker import NAME, TlsBroker, tls_broker
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.oracle import Verdict
    from tests.hosts.base import Base
    from tests.hosts.host import Host

UNIT = "edge-agent.service"
PROGRAM = "/opt/edge-agent/current/bin/edge-agent"
_OUTBOX = "var/lib/edge-agent/outbox.db"
_DRAINS = 10
COUNT = int(os.environ.get("EDGE_AGENT_TEST_FLEET", "3"))
"""Hosts of a fleet."""
SIGNER = new_key()
"""Whose models its devices trust."""
SOON = {"commit_frames": 3, "commit_s": 3.0}
"""A good model is committed before a machine that is busy with other work makes it look too slow."""
NO_LIMITS = {"edge_agent_gate_fps": 0, "edge_agent_gate_latency": 0}
"""A machine that is busy with other work slows an agent down at any moment: no fault of what is rolled out."""


@dataclass
class Fleet:
    """`record` is what the witness writes; `oracle` hears of all and judges it."""

    lab: Lab
    broker: TlsBroker
    record: Path
    reader: Reader
    oracle: Oracle = field(default_factory=Oracle)
    _fences: int = 0

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts; the first is the canary."""
        return self.lab.hosts

    @property
    def variables(self) -> dict[str, Any]:
        """What an inventory of this fleet would say: one camera at one frame a second, TLS with certificates."""
        pem = f"lookup('ansible.builtin.file', '{self.broker.folder}/' ~ inventory_hostname ~ '.%s', rstrip=false)"
        tls = {"tls": True, "ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
        return {
            "edge_agent_mqtt": {"host": NAME, **tls},
            "edge_agent_files": {
                "ca.pem": (self.broker.folder / "ca.pem").read_text(),
                "client.pem": f"{{{{ {pem % 'pem'} }}}}",
                "client.key": f"{{{{ {pem % 'key'} }}}}",
            },
            "edge_agent_cameras": [{"name": "yard", "source": "/srv/lab/long.mp4"}],
            "edge_agent_sampling": {"mode": "uniform", "hz": 1.0},
            "edge_agent_limits": {"threads": 1},
            "edge_agent_models": {"trusted_keys": [SIGNER.public.line], "require_signature": True, **SOON},
            "edge_agent_gate_s": 6,
            **NO_LIMITS,
            "edge_agent_serial": [1, "100%"],
        }

    def given(self, release: Path, **more: object) -> dict[str, Any]:
        """Return the variables of a rollout of this release."""
        return {**self.variables, "edge_agent_release": str(release), **more}

    def rollout(self, release: Path, *options: str, **more: object) -> Played:
        """Run the playbook `rollout` with this release."""
        return play(self.lab, "rollout", self.given(release, **more), *options)

    def play(self, playbook: str, *options: str, **more: object) -> Played:
        """Run another playbook."""
        return play(self.lab, playbook, {**self.variables, **more}, *options)

    def heard(self, host: Host) -> int:
        """Return how many events of the host have come to the witness."""
        with self.record.open(encoding="utf-8") as lines:
            return sum(line.startswith(f"E {host.name}/") for line in lines)

    def wait_for_events(self, *hosts: Host) -> None:
        """Wait until each of the hosts has sent two more events."""
        before = {host.name: self.heard(host) for host in hosts or self.hosts}
        for host in hosts or self.hosts:
            self._wait_for_event(host, before[host.name] + 2)

    def _wait_for_event(self, host: Host, count: int) -> None:
        wait_for(lambda: self.heard(host) >= count, HANGS_S, f"events of {host.name}")

    def account(self) -> Verdict:
        """Stop the agents, let all that is queued arrive, and return the verdict on every event since the beginning."""
        for host in self.hosts:
            self._drain(host)
            self.oracle.file_says(read_accounts(host.root / _OUTBOX))
        self._fence()
        with self.record.open(encoding="utf-8") as record:
            lines = list(record)
        for line in lines:
            if line.startswith("B "):
                self.oracle.process_says(_told_by_birth(json.loads(line[2:])))
        return self.oracle.judge(lines)

    def _drain(self, host: Host) -> None:
        for _ in range(_DRAINS):
            host.run("systemctl", "stop", UNIT)
            if not any(account.queued for account in read_accounts(host.root / _OUTBOX).values()):
                return
            host.run("systemctl", "start", UNIT)
            self.wait_for_events(host)
        raise AssertionError(f"{host.name} can't get rid of its events")

    def _fence(self) -> None:
        """Wait until the witness has all that the broker had by now."""
        self._fences += 1
        text = f"{FENCE}{self._fences}"
        self.lab.run(
            *(
                "mosquitto_pub",
                *self.broker.login("operator"),
                "-V",
                "mqttv5",
                "-q",
                "1",
                "-t",
                FENCE,
                "-m",
                text,
            )
        ).check_returncode()
        wait_for(lambda: f"F {text}\n" in self.record.read_text(), HANGS_S, "the witness to catch up")


def status(host: Host) -> dict[str, Any]:
    """Return what the agent on the host tells of itself; nothing where none runs."""
    done = host.run(PROGRAM, "status", "--json", check=False)
    with contextlib.suppress(json.JSONDecodeError):
        told: dict[str, Any] = json.loads(done.stdout)
        return told
    return {}


def release_of(host: Host) -> str:
    """Return the name of the host's current release."""
    return Path(host.run("readlink", "/opt/edge-agent/current").stdout.strip()).name


def process_of(host: Host) -> str:
    """Return the process id of the service."""
    return host.show(UNIT)["MainPID"]


@contextlib.contextmanager
def fleet(base: Base, count: int = COUNT) -> Iterator[Fleet]:
    """Boot the hosts, with nothing on them, beside a broker and listeners."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(lab(base, count))
        users = [*(host.name for host in made.hosts), "monitor", "operator"]
        broker = stack.enter_context(tls_broker(made.folder / "broker", made.start, CONTROLLER, users))
        record = stack.enter_context(witness(made, broker))
        yield Fleet(made, broker, record, stack.enter_context(reader(made, broker)))


def _told_by_birth(birth: dict[str, Any]) -> str:
    """Return the last numbers of the epochs before that a birth tells, as the oracle takes them."""
    before = [*birth.get("earlier", ()), *filter(None, [birth.get("previous")])]
    last = {f"{each['epoch']}/{lane}": seq for each in before for lane, seq in each["last_seq"].items()}
    return json.dumps({"committed": True, "last": last})
