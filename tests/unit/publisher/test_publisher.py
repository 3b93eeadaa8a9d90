"""The publisher's answers to what a broker says of a message, on a clock of the test's."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from agent.publisher.publisher import BEHIND, Publisher
from agent.transport import Link, Message, Outcome, Presence, Received, Report
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW = 64


class Broker:
    """A Transport that answers each message as `answer` says, None: not yet; it takes a window at a time."""

    def __init__(self) -> None:
        self.link = Link(True, 1, "test")
        self.answer: Callable[[Message], Outcome | None] = lambda _: Outcome.DELIVERED
        self.under_way: list[Message] = []
        self.sent: list[Message] = []
        self.taken: list[Message] = []
        self.waits_s: list[float] = []

    @property
    def room(self) -> int:
        return WINDOW - len(self.under_way) if self.link.connected else 0

    def send(self, message: Message) -> None:
        assert self.room > 0
        self.under_way.append(message)
        self.sent.append(message)

    def poll(self, timeout_s: float) -> list[Report]:
        self.waits_s.append(timeout_s)
        reports = []
        for message in list(self.under_way):
            outcome = self.answer(message)
            if outcome is not None:
                self.under_way.remove(message)
                reports.append(Report(message.key, outcome, "a reason"))
            if outcome is Outcome.DELIVERED:
                self.taken.append(message)
        return reports

    def wake(self) -> None: ...

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...

    def payloads(self) -> list[bytes]:
        """Return what was taken, without what is retained."""
        return [m.payload for m in self.taken if not m.retain]


class Bench:
    """A publisher that is driven round by round, on a clock of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.now_s = 0.0
        self.broker = Broker()
        self.outbox = Outbox(folder / "outbox.db", device="dev", gap_topic="gap")
        self.publisher = Publisher(
            self.outbox, self.broker, rng=random.Random(1), clock=lambda: self.now_s, **options
        )

    def put(self, payload: bytes, lane: Lane = Lane.P0, topic: str = "t", **more: Any) -> None:
        """Put and commit one message."""
        self.outbox.put(lane, topic, lambda _: payload, **more)
        assert self.outbox.flush(HANGS_S)

    def rounds(self, count: int, *, step_s: float = 1.0) -> None:
        """Let the publisher come round so often, and the clock go on."""
        for _ in range(count):
            self.publisher._round()
            assert self.outbox.flush(HANGS_S)
            self.now_s += step_s


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench whose outbox is closed in the end."""
    bench = Bench(tmp_path)
    yield bench
    bench.outbox.close()


def refused(payload: bytes) -> Callable[[Message], Outcome]:
    """Return answers that refuse `payload` for no known reason and take all else."""
    return lambda message: Outcome.REFUSED if message.payload == payload else Outcome.DELIVERED


def test_a_poisoned_message_is_given_up_after_ten_minutes(bench: Bench) -> None:
    """Others pass meanwhile; then it is a dead letter, told as a gap, and counted."""
    bench.broker.answer = refused(b"poison")
    bench.put(b"poison")
    bench.put(b"good")
    bench.rounds(595)
    assert bench.broker.payloads() == [b"good"]
    assert bench.outbox.counts()[Lane.P0].queued == 1
    bench.rounds(70)
    counts = bench.outbox.counts()[Lane.P0]
    assert (counts.confirmed, counts.evicted, counts.rejected, counts.queued) == (1, 1, 1, 0)
    assert bench.outbox.idle()
    gap = json.loads(bench.broker.payloads()[1])
    assert (gap["from_seq"], gap["to_seq"], gap["count"], gap["reason"]) == (1, 1, 1, "rejected")
    state = bench.publisher.state
    assert (state.delivered, state.rejected) == (2, 1)
    assert 5 <= state.refused <= 40


def test_a_storm_of_refusals_makes_no_dead_letters(bench: Bench) -> None:
    """For 15 s the broker refuses everything: all arrives afterwards, in order, and was not hammered."""
    bench.broker.answer = lambda _: Outcome.REFUSED
    for n in range(100):
        bench.outbox.put(Lane.P0, "t", lambda _, n=n: str(n).encode())
    assert bench.outbox.flush(HANGS_S)
    bench.rounds(150, step_s=0.1)
    assert len(bench.broker.sent) < 15 * WINDOW
    bench.broker.answer = lambda _: Outcome.DELIVERED
    bench.rounds(60)
    assert bench.broker.payloads() == [str(n).encode() for n in range(100)]
    assert bench.publisher.state.rejected == 0


def test_an_hour_of_refusals_makes_no_dead_letters(bench: Bench) -> None:
    """While nothing at all is taken it is not the messages."""
    bench.broker.answer = lambda _: Outcome.REFUSED
    for n in range(20):
        bench.put(str(n).encode())
    bench.rounds(3600)
    assert bench.outbox.counts()[Lane.P0].queued == 20
    assert bench.publisher.state.rejected == 0


def test_a_denied_topic_is_held_and_told(bench: Bench) -> None:
    """Its messages stay, one a minute is tried, the state names it; others pass. Also a retained topic."""
    bench.broker.answer = lambda m: Outcome.DENIED if m.topic in {"no", "state"} else Outcome.DELIVERED
    for n in range(3):
        bench.put(b"%d" % n, topic="no")
    bench.put(b"good")
    bench.publisher.retain("state", b"1")
    bench.rounds(200)
    assert bench.broker.payloads() == [b"good"]
    assert bench.publisher.state.denied_topics == ("no", "state")
    tries = [m.topic for m in bench.broker.sent]
    assert tries.count("no") <= 3 + 200 / 60
    assert tries.count("state") <= 1 + 200 / 60
    bench.broker.answer = lambda _: Outcome.DELIVERED
    bench.rounds(61)
    assert bench.broker.payloads() == [b"good", b"0", b"1", b"2"]
    assert bench.publisher.state.denied_topics == ()


def test_a_farewell_that_is_denied_names_its_topic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log knows topics alone, tells each once, and what can't be delivered says why."""
    presence = Presence("status", birth=lambda: b"on", will=b"off")
    bench = Bench(tmp_path, presence=presence)
    bench.broker.answer = lambda _: Outcome.DENIED
    bench.rounds(2)
    assert bench.publisher.state.last_error == "the broker denies status"
    bench.publisher._say_farewell()
    assert [m.payload for m in bench.broker.sent] == [b"on", b"off"]
    assert "farewell" not in caplog.text
    assert caplog.text.count("does not take the retained message on status") == 1
    bench.outbox.close()


def test_a_retained_topic_that_is_taken_again_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What was told bad is told good."""
    bench.broker.answer = lambda _: Outcome.DENIED
    bench.publisher.retain("state", b"1")
    bench.rounds(2)
    bench.broker.answer = lambda _: Outcome.DELIVERED
    bench.rounds(62)
    assert caplog.text.count("takes the retained message on state again") == 1


def test_what_is_due_does_not_spin_while_there_is_no_connection(bench: Bench) -> None:
    """A denied message is due long since, and the broker away: the thread sleeps."""
    bench.broker.answer = lambda _: Outcome.DENIED
    bench.put(b"1")
    bench.rounds(3)
    bench.broker.link = Link(False, 1, "test")
    bench.rounds(200)
    assert set(bench.broker.waits_s[-100:]) == {1.0}


def test_over_a_quota_all_sending_rests(bench: Bench) -> None:
    """Nothing is lost, and the pauses grow."""
    bench.broker.answer = lambda _: Outcome.BUSY
    bench.put(b"1")
    bench.rounds(600)
    assert 8 < len(bench.broker.sent) < 60
    bench.broker.answer = lambda _: Outcome.DELIVERED
    bench.rounds(61)
    assert bench.broker.payloads() == [b"1"]


def test_what_is_new_goes_before_the_backlog(bench: Bench, tmp_path: Path) -> None:
    """A full backlog leaves half of the window free, and a begin put later is sent at once."""
    for n in range(500):
        bench.outbox.put(Lane.P1, "t", lambda _, n=n: str(n).encode())
    assert bench.outbox.flush(HANGS_S)
    bench.broker.answer = lambda _: None
    bench.rounds(5)
    assert len(bench.broker.under_way) == WINDOW // 2
    bench.put(b"new")
    bench.rounds(1)
    assert bench.broker.under_way[-1].payload == b"new"
    bench.broker.answer = lambda _: Outcome.DELIVERED
    bench.rounds(40, step_s=0.05)
    assert [p for p in bench.broker.payloads() if p != b"new"] == [str(n).encode() for n in range(500)]


def test_the_backlog_keeps_to_its_pace(tmp_path: Path) -> None:
    """However fast the broker is, the backlog is sent no faster than it should; the first moments excepted."""
    bench = Bench(tmp_path, backlog_hz=50.0)
    for n in range(500):
        bench.outbox.put(Lane.P1, "t", lambda _, n=n: str(n).encode())
    assert bench.outbox.flush(HANGS_S)
    bench.rounds(40, step_s=0.1)
    assert 150 <= len(bench.broker.payloads()) <= WINDOW + 4 * 50
    bench.outbox.close()


def made(tmp_path: Path) -> Bench:
    """Return a bench with a presence."""
    benches: list[Bench] = []

    def birth() -> bytes:
        if not benches:
            return b"{}"
        previous = benches[0].outbox.previous
        before = None if previous is None else [previous.epoch, previous.last_seq.get("P0", 0)]
        return json.dumps([benches[0].outbox.epoch, before]).encode()

    bench = Bench(tmp_path, presence=Presence("status", birth=birth, will=b""))
    benches.append(bench)
    return bench


def births(bench: Bench) -> list[Any]:
    """Return the births that the broker took."""
    return [json.loads(m.payload) for m in bench.broker.taken if m.topic == "status"]


def test_a_backlog_at_a_connect_begins_a_new_epoch(tmp_path: Path) -> None:
    """First the birth of the epoch that has piled up, then that of the new one, which proves the tail."""
    bench = made(tmp_path)
    first = bench.outbox.epoch
    for n in range(BEHIND + 1):
        bench.outbox.put(Lane.P0, "t", lambda _, n=n: str(n).encode())
    assert bench.outbox.flush(HANGS_S)
    bench.rounds(3)
    second = bench.outbox.epoch
    assert second != first
    assert births(bench) == [[first, None], [second, [first, BEHIND + 1]]]
    bench.put(b"new")
    bench.rounds(10)
    assert sorted(bench.broker.payloads()) == sorted([b"new", *(str(n).encode() for n in range(BEHIND + 1))])
    assert bench.outbox.epoch == second
    bench.outbox.close()


def test_without_a_backlog_the_epoch_stays(tmp_path: Path) -> None:
    """A few messages are no backlog: one birth a connection."""
    bench = made(tmp_path)
    epoch = bench.outbox.epoch
    for n in range(BEHIND // 2):
        bench.outbox.put(Lane.P0, "t", lambda _, n=n: str(n).encode())
    assert bench.outbox.flush(HANGS_S)
    bench.rounds(3)
    bench.broker.link = Link(True, 2, "test")
    bench.rounds(3)
    assert births(bench) == [[epoch, None]] * 2
    bench.outbox.close()


def test_a_new_epoch_of_the_outbox_is_told_at_once(tmp_path: Path) -> None:
    """Whoever began it, a repair for example: its birth is told on the connection that stands."""
    bench = made(tmp_path)
    bench.rounds(2)
    bench.outbox.roll()
    bench.rounds(2)
    assert [epoch for epoch, _ in births(bench)][-1] == bench.outbox.epoch
    assert len(births(bench)) == 2
    bench.outbox.close()


def test_times_are_freshened_at_every_try_and_the_row_stays(tmp_path: Path) -> None:
    """A message with an offset is sent as `freshen` has it now; one without, or that can't be, as it is."""

    def freshen(message: Message) -> bytes:
        if message.payload == b"odd":
            raise ValueError("no JSON")
        return message.payload + b" at %g" % bench.now_s

    bench = Bench(tmp_path, freshen=freshen)
    bench.put(b"late", offset_s=1.0)
    bench.put(b"good")
    bench.put(b"odd", offset_s=1.0)
    bench.broker.answer = lambda m: Outcome.LOST if m.payload == b"late at 0" else Outcome.DELIVERED
    bench.rounds(3)
    assert bench.broker.payloads() == [b"good", b"odd", b"late at 1"]
    assert bench.publisher.state.lost == 1
    bench.outbox.close()


def test_a_fault_of_the_transport_is_survived(bench: Bench) -> None:
    """What was under way when it failed is sent again."""
    bench.put(b"1")
    bench.publisher._round()
    bench.put(b"2")
    good = bench.broker.send

    def broken(message: Message) -> None:
        bench.broker.send = good  # type: ignore[method-assign]
        raise OSError("no more")

    bench.broker.send = broken  # type: ignore[method-assign]
    bench.publisher._stopping.set()  # no pause after the fault
    bench.publisher._guard(bench.publisher._round)
    assert bench.publisher.state.faults == 1
    assert "no more" in bench.publisher.state.last_error
    bench.rounds(2)
    assert bench.broker.payloads() == [b"1", b"2"]
    assert bench.publisher.state.last_error == ""


@settings(max_examples=25, deadline=None)
@given(
    answers=st.lists(st.sampled_from([*Outcome, None]), max_size=120),
    lanes=st.lists(st.sampled_from([Lane.P0, Lane.P1]), min_size=1, max_size=30),
)
def test_whatever_is_answered_each_message_arrives_or_is_reported(
    answers: list[Outcome | None], lanes: list[Lane]
) -> None:
    """After any answers a broker that takes all gets all but the dead letters, and gaps tell of those."""
    with tempfile.TemporaryDirectory() as folder:
        bench, left = Bench(Path(folder)), iter(answers)
        bench.broker.answer = lambda _: next(left, Outcome.DELIVERED)
        for n, lane in enumerate(lanes):
            bench.outbox.put(lane, f"t{n % 3}", lambda _, n=n: b"%d" % n)
        assert bench.outbox.flush(HANGS_S)
        bench.rounds(15, step_s=10.0)
        bench.rounds(15, step_s=61.0)
        got = [m.payload for m in bench.broker.taken if m.topic != "gap"]
        gaps = [json.loads(m.payload) for m in bench.broker.taken if m.topic == "gap"]
        counts = bench.outbox.counts()
        idle, state = bench.outbox.idle(), bench.publisher.state
        bench.outbox.close()
    assert idle
    assert len(got) == len(set(got)) == sum(counts[lane].confirmed for lane in (Lane.P0, Lane.P1))
    reported = sum(gap["count"] for gap in gaps)
    dead_gaps = state.rejected - sum(counts[lane].rejected for lane in (Lane.P0, Lane.P1))
    assert len(got) + sum(counts[lane].rejected for lane in (Lane.P0, Lane.P1)) == len(lanes)
    assert reported == sum(counts[lane].rejected for lane in (Lane.P0, Lane.P1)) or dead_gaps > 0
    assert state.faults == 0


def test_a_slow_disk_is_no_hang(bench: Bench) -> None:
    """To take rows is to read the disk: an SD card that answers after half a minute is waited for, as in the outbox."""
    real, beats = Outbox.take, []

    def take(*args: Any, **more: Any) -> list[Message]:
        beats.append(bench.publisher.beat.read("publisher"))
        return real(bench.outbox, *args, **more)

    bench.outbox.take = take  # type: ignore[method-assign]
    bench.publisher._round()
    assert beats
    assert all(beat.call and beat.deadline_s > 30.0 for beat in beats)


def test_an_answer_goes_before_the_rows_and_leaves_them_their_room(bench: Bench) -> None:
    """With a full window of rows waiting: first the answer, then rows; one that is denied is not sent again."""
    for n in range(200):
        bench.put(b"row%d" % n)
    bench.publisher.note("answers/me", b"answer", correlation=b"k")
    bench.rounds(1)
    assert bench.broker.sent[0].payload == b"answer"
    assert bench.broker.sent[0].correlation == b"k"
    assert len(bench.broker.sent) == WINDOW
    bench.broker.answer = lambda m: Outcome.DENIED if m.topic == "answers/me" else Outcome.DELIVERED
    bench.publisher.note("answers/me", b"denied")
    bench.rounds(10)
    assert [m.payload for m in bench.broker.sent].count(b"denied") == 1
    assert bench.publisher.state.notes_dropped == 1
    assert bench.outbox.idle()
