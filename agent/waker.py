"""Ends a thread's wait in `poll` from any other thread."""

from __future__ import annotations

import contextlib
import socket


class Waker:
    """A file descriptor to wait for beside others: readable from `wake` until `clear`."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair()
        for end in (self._in, self._out):
            end.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._out.fileno()

    def wake(self) -> None:
        """End the wait that is or the next one; after `close` nothing happens."""
        with contextlib.suppress(OSError):
            self._in.send(b"\0")

    def clear(self) -> None:
        """Forget all that woke it so far."""
        with contextlib.suppress(BlockingIOError):
            self._out.recv(4096)

    def close(self) -> None:
        """Let the descriptors go; may be called twice."""
        self._in.close()
        self._out.close()
