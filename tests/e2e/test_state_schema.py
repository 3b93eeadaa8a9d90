"""An agent of another version on a state directory: an older one's is carried on, a newer one's left alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from agent import __version__
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from agent.starter import sample_clip
from agent.topics import Topics
from tests.e2e.brokers import Subscriber, mosquitto, wait_for
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = Topics.of("dev1")


def run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the agent on the sample clip."""
    given = (
        "run",
        "--source",
        str(sample_clip()),
        "--device",
        "dev1",
        "--state",
        str(state),
        "--pace",
        "fastest",
        *arguments,
    )
    return subprocess.run(
        [sys.executable, "-m", "agent", *given],
        capture_output=True,
        text=True,
        timeout=2 * HANGS_S,
        check=False,
    )


def queue_rows(state: Path) -> set[str]:
    """Leave what an agent of before there were schemas would: a directory with rows in its outbox; return their ids."""
    state.mkdir()
    with Outbox(state / "outbox.db", device="dev1", gap_topic=TOPICS.gap) as outbox:
        ids = {
            str(outbox.put(Lane.P0, TOPICS.events("yard"), lambda i: msgspec.json.encode({"id": str(i)})))
            for _ in range(50)
        }
        assert outbox.flush(HANGS_S)
    return ids


def test_a_state_without_a_schema_is_carried_on(tmp_path: Path) -> None:
    """What waited in it arrives, and from then on it says of what version it is."""
    ids = queue_rows(tmp_path / "state")
    with mosquitto(tmp_path) as broker, Subscriber(broker.port) as subscriber:
        done = run(tmp_path / "state", "--broker", f"mqtt://127.0.0.1:{broker.port}")
        assert done.returncode == 0, done.stderr

        def arrived() -> bool:
            return ids <= {msgspec.json.decode(each)["id"] for each in subscriber.payloads("/events/")}

        wait_for(arrived, HANGS_S, "what was queued")
    assert (tmp_path / "state/schema").read_text() == f"1\n{__version__}\n"


def test_a_newer_state_is_left_alone(tmp_path: Path) -> None:
    """Code 78, one line that says what to do, and not a byte of it is touched."""
    state = tmp_path / "state"
    queue_rows(state)
    (state / "schema").write_text("2\n9.0.0\n")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in state.rglob("*")}
    done = run(state, "--broker", "mqtt://127.0.0.1:1")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
    assert "install edge-agent 9.0.0 or newer" in done.stderr
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in state.rglob("*")} == before
