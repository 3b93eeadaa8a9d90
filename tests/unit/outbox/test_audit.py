"""`edge-agent outbox status`: the books of an outbox, read beside a running agent and without one."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli.outbox import outbox as command
from agent.errors import InputMissing
from agent.outbox.audit import audit
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from tests.patience import HANGS_S


def status(*arguments: str | Path) -> Result:
    """Run `outbox status`."""
    return CliRunner().invoke(command, ["status", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with an outbox that has confirmed, rejected and queued messages."""
    with Outbox(tmp_path / "outbox.db", device="dev", gap_topic="gap", boot_id="b") as outbox:
        for number in range(5):
            outbox.put(Lane.P0, "t", lambda i: str(i).encode(), note=Note(f"event/{number}", keep=number > 2))
        assert outbox.flush(HANGS_S)
        keys = [int(message.key) for message in outbox.take(9)]
        outbox.confirm(keys[:2])
        outbox.discard(keys[2:3], reason="rejected")
    return tmp_path


def test_the_invariant_by_epoch_and_lane_as_json(state: Path) -> None:
    """One document: allocated = confirmed + queued + evicted + corrupt, totals, notes, bytes."""
    result = status("--state", state, "--json")
    document = json.loads(result.stdout)
    (one,) = document["outboxes"]
    assert (result.exit_code, document["holds"], one["holds"], one["damage"]) == (0, True, True, None)
    (epoch,) = one["epochs"]
    assert epoch["boot_id"] == "b"
    assert epoch["lanes"]["P0"] == one["totals"]["P0"]
    assert one["totals"]["P0"] == {
        "allocated": 5,
        "confirmed": 2,
        "queued": 2,
        "evicted": 1,
        "rejected": 1,
        "corrupt": 0,
        "holds": True,
    }
    assert one["totals"]["GAP"]["queued"] == 1
    assert one["notes"] == ["event/3", "event/4"]
    assert one["bytes"] > 0
    assert one["set_aside"] == []


def test_it_may_run_beside_an_agent(state: Path) -> None:
    """What that one has committed is seen, and nothing of it is changed or held up."""
    with Outbox(state / "outbox.db", device="dev", gap_topic="gap") as outbox:
        outbox.put(Lane.P1, "t", lambda _: b"x")
        assert outbox.flush(HANGS_S)
        before = sorted(path.name for path in state.iterdir())
        document = json.loads(status("--state", state, "--json").stdout)
        assert document["outboxes"][0]["totals"]["P1"]["queued"] == 1
        assert sorted(path.name for path in state.iterdir()) == before
        outbox.put(Lane.P1, "t", lambda _: b"x")
        assert outbox.flush(HANGS_S)


def test_a_lane_that_does_not_add_up_is_told(state: Path) -> None:
    """Exit code 1, and the line says NO."""
    with sqlite3.connect(state / "outbox.db") as raw:
        raw.execute("DELETE FROM message WHERE key IN (SELECT max(key) FROM message)")
    raw.close()
    result = status("--state", state)
    assert result.exit_code == 1
    assert "NO" in result.output
    assert max(map(len, result.output.splitlines()[:4])) <= 80
    assert not audit(state / "outbox.db").holds


def test_a_damaged_file_is_told(state: Path) -> None:
    """Exit code 1; it is left for the agent to repair."""
    (state / "outbox.db").write_bytes(b"garbage" * 999)
    result = status("--state", state)
    assert (result.exit_code, "damaged: file is not a database" in result.output) == (1, True)
    with Outbox(state / "outbox.db", device="dev", gap_topic="gap"):
        pass
    result = status("--state", state)
    assert (result.exit_code, "damaged files kept: outbox.db.damaged-" in result.output) == (0, True)


def test_no_outbox_there(tmp_path: Path) -> None:
    """Exit code 66, with what to give."""
    result = status("--state", tmp_path)
    assert isinstance(result.exception, InputMissing)
    assert result.exception.exit_code == 66
    assert "--state" in str(result.exception)
