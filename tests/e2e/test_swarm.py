"""A hundred real clients on one mosquitto that is restarted, and away for a while."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.swarming import logged_broker, received, swarming
from tests.e2e.brokers import wait_for
from tests.faults.lab import child
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
CLIENTS = 100


@pytest.mark.timeout(6 * HANGS_S)
def test_a_hundred_clients_come_back_and_nothing_is_lost(tmp_path: Path) -> None:
    """All connect again after each time that the broker was away; each event that was put arrives, by its id."""
    began_s = time.monotonic()
    with (
        logged_broker(tmp_path) as (broker, log),
        child("tests.faults.witness", "--port", broker.port, "--out", tmp_path / "witness"),
        swarming(tmp_path, broker.port, clients=CLIENTS, processes=1, hz=0.5) as swarm,
    ):
        wait_for(lambda: len(log.since(began_s)) == CLIENTS, HANGS_S, "all clients")
        swarm.tell("go")
        swarm.until(lambda said: said["put"] > CLIENTS, "some events", HANGS_S)
        command = (sys.executable, "-m", "agent", "fleet", "watch", "--json", "--wait", "0")
        where = ("--broker", f"mqtt://127.0.0.1:{broker.port}")
        seen = subprocess.run([*command, *where], cwd=ROOT, capture_output=True, check=False, timeout=HANGS_S)
        assert seen.stdout, seen.stderr
        assert json.loads(seen.stdout)["summary"]["health"] == {"ok": CLIENTS}, seen.stderr
        for queued in (0, CLIENTS):
            broker.terminate()
            swarm.until(lambda said: not said["connected"], "the clients to notice", HANGS_S)
            swarm.until(lambda said, least=queued: said["queued"] >= least, "a backlog", HANGS_S)
            back_s = time.monotonic()
            broker.start()
            wait_for(lambda since_s=back_s: len(log.since(since_s)) == CLIENTS, HANGS_S, "all to come back")
        swarm.tell("hold")
        swarm.until(lambda said: not said["waiting"], "all to be delivered", HANGS_S)
        wanted = swarm.ids()
        wait_for(lambda: wanted <= set(received(tmp_path / "witness")), HANGS_S, "the witness to have all")
    assert len(wanted) > 2 * CLIENTS
