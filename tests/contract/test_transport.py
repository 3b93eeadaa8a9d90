"""What every Transport promises, over a real broker and over a file."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent import wire
from agent.errors import CannotCreate
from agent.filesink import FileTransport
from agent.mqtt.options import MqttOptions
from agent.mqtt.transport import MqttTransport
from agent.topics import Topics
from agent.transport import Message, Outcome, Report
from tests.e2e.brokers import mosquitto
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["mqtt", "file"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Open each transport in turn."""
    if request.param == "file":
        sink = FileTransport(tmp_path / "events.jsonl")
        yield sink
        sink.close()
        return
    with mosquitto(tmp_path) as broker:
        link = MqttTransport(MqttOptions("127.0.0.1", broker.port), rng=random.Random(1))
        yield link
        link.close()


def message(n: int, **more: Any) -> Message:
    """Return event number `n`."""
    return Message(n, "edge/d/events/yard", b'{"n": %d}' % n, **more)


def pump(transport: Any, until: Any) -> list[Report]:
    """Poll until `until(reports so far)`."""
    reports: list[Report] = []
    end_s = time.monotonic() + HANGS_S
    while not until(reports):
        assert time.monotonic() < end_s, f"no more than {reports}"
        reports += transport.poll(0.1)
    return reports


def test_every_message_is_reported_once(transport: Any) -> None:
    """Within its room everything sent is delivered, each reported once; the room comes back."""
    pump(transport, lambda _: transport.room)
    assert transport.link.connected
    room = transport.room
    for n in range(room):
        transport.send(message(n))
    assert transport.room == 0
    reports = pump(transport, lambda got: len(got) >= room)
    assert [r.key for r in reports] == list(range(room))
    assert {r.outcome for r in reports} == {Outcome.DELIVERED}
    assert transport.room == room
    assert transport.poll(0.0) == []


@pytest.mark.parametrize("more", [{"qos": 0}, {"retain": True}])
def test_other_kinds_of_message(transport: Any, more: dict[str, Any]) -> None:
    """Messages without an answer and retained ones are reported as well."""
    pump(transport, lambda _: transport.room)
    transport.send(message(1, **more))
    assert pump(transport, lambda got: got)[0] == Report(1, Outcome.DELIVERED, pump_detail(transport, more))


def pump_detail(transport: Any, more: dict[str, Any]) -> str:
    """Return the detail that goes with a delivery."""
    with_reason = isinstance(transport, MqttTransport) and more.get("qos", 1)
    return "0x10 no matching subscribers" if with_reason else ""


def test_wake_ends_a_wait(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll of an hour returns after `wake` from another thread, with nothing else to do."""
    pump(transport, lambda _: transport.room)
    if isinstance(transport, MqttTransport):
        monkeypatch.setattr(transport, "_until_due_s", lambda: 3600.0)
    timer = threading.Timer(0.05, transport.wake)
    timer.start()
    transport.poll(3600.0)
    timer.join()


def test_close_twice_and_reset(transport: Any) -> None:
    """`reset` forgets without a report; closing again does no harm."""
    pump(transport, lambda _: transport.room)
    transport.send(message(1))
    transport.reset()
    assert transport.poll(0.0) == []
    transport.close()
    transport.close()


def test_a_file_gets_events_alone_in_order_after_what_was_there(tmp_path: Path) -> None:
    """Lines are appended in order; a cut last line is ended first; other topics have no place."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"old": 1}\n{"cut": ')
    sink = FileTransport(path)
    sink.send(message(1))
    sink.send(Message("s", "edge/d/status", b"{}", retain=True))
    sink.send(message(2))
    assert len(sink.poll(0.0)) == 3
    sink.close()
    assert path.read_bytes() == b'{"old": 1}\n{"cut": \n{"n": 1}\n{"n": 2}\n'


def test_a_file_tells_a_gap_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A gap report is one error line with lane, numbers, count and reason; the file holds events alone."""
    path = tmp_path / "events.jsonl"
    gap = wire.Gap(1, "run7", "P1", 3, 9, 5, "disk_full")
    sink = FileTransport(path)
    sink.send(message(1))
    sink.send(Message(2, Topics.of("d").gap, msgspec.json.encode(gap)))
    sink.send(Message(3, "edge/d/gap", b"no report"))
    assert {r.outcome for r in sink.poll(0.0)} == {Outcome.DELIVERED}
    sink.close()
    assert path.read_bytes() == b'{"n": 1}\n'
    first, second = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    for part in ("5 messages", "disk_full", "3 to 9", "P1", "run7"):
        assert part in first
    assert "no report" in second


@pytest.mark.parametrize("where", ["", "none/events.jsonl"])
def test_a_sink_that_can_not_be_written(tmp_path: Path, where: str) -> None:
    """A folder, or a file in a folder that is not there: exit code 73, with the path."""
    with pytest.raises(CannotCreate, match="can't write to") as caught:
        FileTransport(tmp_path / where)
    assert caught.value.exit_code == 73


def test_a_full_disk_keeps_the_messages_and_the_file_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that fails is reported LOST, and the sink rests before the next try."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    sink = FileTransport(Path("/dev/full"))
    sink.send(message(1))
    sink.send(Message(2, "edge/d/gap", b"{}"))
    assert [r.outcome for r in sink.poll(0.0)] == [Outcome.LOST, Outcome.LOST]
    assert not caplog.records
    assert not sink.link.connected
    assert os.strerror(28) in sink.link.error
    sink.close()
