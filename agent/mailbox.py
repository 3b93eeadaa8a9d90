"""One slot a camera in front of the engine: the newest frame wins, and every frame that lost is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from agent.errors import AgentError
    from agent.messages import Frame


class Mailbox:
    """A one-slot mailbox between a capture thread and the inference thread.

    With `blocking` (`--pace fastest`) `put` waits for the slot instead of replacing what is in it. `bell` is
    the condition both sides wait on; all cameras of an engine share one.
    """

    def __init__(self, bell: threading.Condition, *, blocking: bool = False) -> None:
        self._bell = bell
        self._blocking = blocking
        self._frame: Frame | None = None
        self._closed = False
        self._fault: AgentError | None = None
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """Frames that a newer one pushed out before the engine came to them."""
        return self._replaced

    @property
    def full(self) -> bool:
        """A frame waits."""
        return self._frame is not None

    @property
    def finished(self) -> bool:
        """Nothing is here and nothing will come."""
        return self._closed and self._frame is None

    def put(self, frame: Frame) -> None:
        """Leave `frame` for the engine; after `close` it is ignored. Raises what it was refused with."""
        with self._bell:
            while self._blocking and self._frame is not None and not self._closed:
                self._bell.wait()
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            if self._closed:
                return
            self._replaced += self._frame is not None
            self._frame = frame
            self._bell.notify_all()

    def take(self) -> Frame | None:
        """Return the newest frame, if any, and free the slot."""
        with self._bell:
            frame, self._frame = self._frame, None
            if frame is not None and self._blocking:
                self._bell.notify_all()
            return frame

    def refuse(self, fault: AgentError) -> None:
        """Have the next `put` raise `fault`: the source's pictures are no good."""
        with self._bell:
            self._fault = fault
            self._bell.notify_all()

    def forgive(self) -> None:
        """Take back what the source before this one was refused with."""
        with self._bell:
            self._fault = None

    @property
    def fault(self) -> AgentError | None:
        """What was refused and not raised yet."""
        return self._fault

    def close(self) -> None:
        """End the source side: what is in the slot can still be taken."""
        with self._bell:
            self._closed = True
            self._bell.notify_all()
