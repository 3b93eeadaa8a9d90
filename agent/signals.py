"""Signals as messages: the main thread takes them from a queue like everything else that happens."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterator

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP


@contextmanager
def signals_into(happenings: queue.SimpleQueue[Any], *, reload: bool) -> Iterator[None]:
    """Put the names of SIGTERM, SIGINT and SIGHUP into `happenings` (its `put` is safe in a signal handler).

    What was ignored before stays ignored (SIGHUP under nohup, SIGINT of a shell's background job), SIGHUP with
    `reload` apart.
    """
    before = {
        number: signal.signal(number, lambda n, _: happenings.put(signal.Signals(n).name))
        for number in (*STOP, RELOAD)
        if signal.getsignal(number) is not signal.SIG_IGN or (reload and number is RELOAD)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
