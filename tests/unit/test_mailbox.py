"""The one-slot mailbox: newest wins, and nothing is lost uncounted."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.mailbox import Mailbox
from tests.patience import HANGS_S


def frame(seq: int) -> Any:
    return SimpleNamespace(seq=seq)


@given(st.lists(st.sampled_from(["put", "take"])))
def test_newest_wins_and_every_drop_is_counted(steps: list[str]) -> None:
    """Whatever the order of puts and takes, a take gives the newest frame and taken + replaced + waiting = put."""
    mailbox = Mailbox(threading.Condition())
    put = taken = 0
    for step in steps:
        if step == "put":
            mailbox.put(frame(put))
            put += 1
        elif (got := mailbox.take()) is not None:
            assert got.seq == put - 1
            taken += 1
    assert taken + mailbox.replaced + mailbox.full == put


def test_blocking_put_waits_for_the_slot() -> None:
    """With `blocking` no frame is dropped and all come out in order."""
    mailbox = Mailbox(threading.Condition(), blocking=True)
    seen: list[int] = []

    def produce() -> None:
        for seq in range(50):
            mailbox.put(frame(seq))
        mailbox.close()

    thread = threading.Thread(target=produce)
    thread.start()
    while not mailbox.finished:
        got = mailbox.take()
        if got is not None:
            seen.append(got.seq)
    thread.join(HANGS_S)
    assert seen == list(range(50))
    assert mailbox.replaced == 0


def test_close_frees_a_blocked_put_and_keeps_the_frame() -> None:
    """Closing ends a waiting put; the frame already in the slot can still be taken, the late one is ignored."""
    mailbox = Mailbox(threading.Condition(), blocking=True)
    mailbox.put(frame(0))
    late = threading.Thread(target=mailbox.put, args=(frame(1),))
    late.start()
    mailbox.close()
    late.join(HANGS_S)
    assert not late.is_alive()
    assert not mailbox.finished
    got = mailbox.take()
    assert got is not None
    assert got.seq == 0
    assert mailbox.finished
