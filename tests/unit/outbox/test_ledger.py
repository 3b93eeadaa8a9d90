"""The epochs before this one."""

from __future__ import annotations

from pathlib import Path

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from tests.patience import HANGS_S


def opened(folder: Path) -> Outbox:
    """Return an outbox in `folder`."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap")


def test_births_name_the_epochs_before_settled_or_not(tmp_path: Path) -> None:
    """All runs with messages, the latest first, however many of their births found no broker."""
    names: list[str] = []
    for run in range(20):
        with opened(tmp_path) as outbox:
            assert [each.epoch for each in outbox.before] == names[:16]
            assert all(each.last_seq == {"P0": 2} for each in outbox.before)
            for _ in range(2):
                outbox.put(Lane.P0, "t", lambda _: b"x")
            assert outbox.flush(HANGS_S)
            if run % 2:
                outbox.confirm([int(message.key) for message in outbox.take(9)])
            names.insert(0, outbox.epoch)


def test_an_epoch_without_messages_hides_none_before_it(tmp_path: Path) -> None:
    """After restarts without a broker the birth still tells the last numbers of the last run that had some."""
    with opened(tmp_path) as outbox:
        assert outbox.previous is None
        for _ in range(7):
            outbox.put(Lane.P0, "t", lambda _: b"x")
        assert outbox.flush(HANGS_S)
        epoch = outbox.epoch
        outbox.confirm([int(message.key) for message in outbox.take(9)])
    for _ in range(3):
        with opened(tmp_path) as outbox:
            assert outbox.previous is not None
            assert (outbox.previous.epoch, outbox.previous.last_seq) == (epoch, {"P0": 7})
            outbox.put(Lane.P2, "t", lambda _: b"in memory only")
            outbox.roll()
            assert outbox.previous.epoch == epoch
