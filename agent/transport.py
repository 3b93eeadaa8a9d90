"""The way out of the device: the Transport Protocol and what goes through it, with nothing of MQTT in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Key = int | str
"""Names a message while it is under way: a row's key, the topic of a retained message, or "#" and a note's number."""


@dataclass(frozen=True, slots=True)
class Message:
    """One payload for one topic. `qos` 0 asks for no answer: it counts as delivered once handed over.

    `offset_s`: utc minus monotonic time that the payload was made with while the clock was not synchronised,
    where that still means something: in the boot it was made in. `correlation` is what a requester gave for his answer.
    """

    key: Key
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    offset_s: float | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """What came on a topic that was listened to; `retained`: it was kept by the broker, or is to be.

    `response_topic` and `correlation` are what the sender gave for an answer; only MQTT 5 has them.
    """

    topic: str
    payload: bytes
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


class Outcome(Enum):
    """What became of a message."""

    DELIVERED = "delivered"  # the other side has it: it may be forgotten here
    REJECTED = "rejected"  # it will never be taken as it is: a dead letter
    DENIED = "denied"  # not authorised: keep it, leave its topic alone for a while
    BUSY = "busy"  # over a quota: keep it, send nothing for a while
    REFUSED = "refused"  # for no reason that is known: as busy, but a dead letter when it stays so
    LOST = "lost"  # the connection went before an answer: keep it, send it again


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of the message `key`; `detail` is the other side's reason in words."""

    key: Key
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """How the way out stands. `session` goes up by one with every connection that was made.

    `strays` counts answers to nothing that was under way: duplicates, and numbers never sent. `unread` are topics
    that are left alone after a flood.
    """

    connected: bool
    session: int
    protocol: str
    error: str = ""
    strays: int = 0
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Presence:
    """What the retained `topic` says of this device: `birth` while it is connected, `will` when it is not.

    `birth` is made at every connect, and when a new epoch begins.
    """

    topic: str
    birth: Callable[[], bytes]
    will: bytes


class Transport(Protocol):
    """Takes messages, tells what became of each. Driven by one thread, but for `wake()` and `listen()`.

    Every message that was sent is reported exactly once; a lost connection reports all under way as LOST.
    """

    @property
    def link(self) -> Link:
        """How the way out stands."""
        ...

    @property
    def room(self) -> int:
        """How many more messages `send` takes now; 0 while not connected."""
        ...

    def send(self, message: Message) -> None:
        """Send `message`; call it only while there is `room`."""
        ...

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        """Have what comes on `topic` handed to `take`, which neither blocks nor raises. From any thread.

        `kept`: also what the broker keeps for the topic, at each connect.
        """
        ...

    def poll(self, timeout_s: float) -> list[Report]:
        """Connect, read and write as needed; return after something was reported, `wake()` or `timeout_s`."""
        ...

    def wake(self) -> None:
        """Make a running or the next `poll` return soon, from any thread."""
        ...

    def reset(self) -> None:
        """Forget all that is under way, and the connection with it, without a report."""
        ...

    def close(self) -> None:
        """End the connection politely; may be called twice. What is under way is not reported any more."""
        ...
