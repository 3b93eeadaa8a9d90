"""A question between two threads."""

from __future__ import annotations

import threading

from agent.publisher.asking import Asking
from tests.patience import HANGS_S


def test_an_answer_is_for_what_was_asked_before_the_look() -> None:
    """A question that comes while the answerer looks has to wait for the next answer."""
    asking = Asking()
    assert asking.pending == 0
    first = asking.ask()
    looked = asking.pending
    second = asking.ask()
    asking.answer(looked)
    assert asking.wait(first, 0.0)
    assert not asking.wait(second, 0.0)
    assert asking.pending == second


def test_an_answer_ends_the_wait() -> None:
    """From another thread."""
    asking = Asking()
    number = asking.ask()
    timer = threading.Timer(0.02, asking.answer, [number])
    timer.start()
    assert asking.wait(number, HANGS_S)
    timer.join()
