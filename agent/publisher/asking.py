"""One thread asks whether all is done, another answers when it is."""

from __future__ import annotations

import threading


class Asking:
    """A question that can be put again and again; an answer is for what was asked before the answerer looked."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = self._answered = 0

    @property
    def pending(self) -> int:
        """The last question that has no answer yet; 0 without one. To be read before looking."""
        with self._changed:
            return self._asked if self._asked > self._answered else 0

    def ask(self) -> int:
        """Put the question; return its number."""
        with self._changed:
            self._asked += 1
            return self._asked

    def wait(self, number: int, timeout_s: float) -> bool:
        """Wait for the answer to question `number`; return whether it came within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._answered >= number, timeout_s)

    def answer(self, number: int) -> None:
        """Answer all questions up to `number`: it is done."""
        with self._changed:
            self._answered = number
            self._changed.notify_all()
