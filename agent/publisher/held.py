"""Messages that the broker would not take now: which are kept aside, when each is tried again, when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from agent.transport import Message

REFUSALS = 5
PATIENCE_S = 600.0
"""So often and for so long is a message refused for no known reason before it is given up."""
_ASIDE = 8
_REMEMBERED = 1024

Verdict = Literal["aside", "back", "dead"]


@dataclass(slots=True)
class _Aside:
    """A message that is tried again, alone, at `retry_s`."""

    message: Message
    retry_s: float


@dataclass(slots=True)
class _Refusals:
    """How often a message was refused, since when, and how many others had arrived until then."""

    first_s: float
    arrived: int
    backoff: Backoff
    count: int = 0


class Held:
    """Keeps aside what was denied or refused; time and what arrived are arguments.

    Of each topic that is denied one message is kept to try with, every `hold_s`. A message that is refused for no
    known reason is kept aside and tried ever more rarely, so that others pass; when more than a few are, the
    broker refuses everything, and they go back to wait in their order. One is given up after REFUSALS refusals
    over PATIENCE_S, if the broker took others meanwhile.
    """

    def __init__(self, *, hold_s: float, rng: Random) -> None:
        self._hold_s, self._rng = hold_s, rng
        self._denied: dict[str, _Aside] = {}
        self._refused: dict[int, _Aside] = {}
        self._refusals: dict[int, _Refusals] = {}

    @property
    def topics(self) -> frozenset[str]:
        """The topics that are denied."""
        return frozenset(self._denied)

    def due(self, now_s: float) -> list[Message]:
        """Return the messages to try again now."""
        return [aside.message for aside in self._all() if aside.retry_s <= now_s]

    def wait_s(self, now_s: float) -> float:
        """Return how long until the next one is due; infinite without any."""
        return min((aside.retry_s - now_s for aside in self._all()), default=float("inf"))

    def postpone(self, message: Message, until_s: float) -> bool:
        """Have `message` due at `until_s`; return whether it is one of those kept aside."""
        mine = [aside for aside in self._all() if aside.message.key == message.key]
        for aside in mine:
            aside.retry_s = until_s
        return bool(mine)

    def deny(self, message: Message, now_s: float) -> Verdict:
        """Note that the topic of `message` is denied; return whether this one is the one to try with."""
        self._refused.pop(int(message.key), None)
        denied = self._denied.setdefault(message.topic, _Aside(message, 0.0))
        if denied.message.key != message.key:
            return "back"
        denied.retry_s = now_s + self._hold_s
        return "aside"

    def refuse(self, message: Message, now_s: float, *, arrived: int, resting: bool = False) -> Verdict:
        """Note one more refusal of `message`; `arrived` counts all that were ever taken.

        While all sending is `resting` none is kept aside: it is not this message.
        """
        key = int(message.key)
        self._pop_denied(message)
        known = self._refusals.pop(key, None)
        refusals = known or _Refusals(
            now_s, arrived, Backoff(first_s=1.0, max_s=60.0, rng=self._rng, least=0.5)
        )
        refusals.count += 1
        if (
            refusals.count >= REFUSALS
            and now_s - refusals.first_s >= PATIENCE_S
            and arrived > refusals.arrived
        ):
            self._refused.pop(key, None)
            return "dead"
        self._refusals[key] = refusals
        while len(self._refusals) > _REMEMBERED:
            del self._refusals[next(iter(self._refusals))]
        if resting or (key not in self._refused and len(self._refused) >= _ASIDE):
            self._refused.pop(key, None)
            return "back"
        self._refused[key] = _Aside(message, now_s + refusals.backoff.next_s())
        return "aside"

    def release(self) -> list[Message]:
        """Return the refused ones that were aside: they wait with the others again."""
        back = [aside.message for aside in self._refused.values()]
        self._refused.clear()
        return back

    def settled(self, message: Message) -> bool:
        """Forget `message`, which has arrived or is given up; return whether its topic was denied until now."""
        self._refused.pop(int(message.key), None)
        self._refusals.pop(int(message.key), None)
        return self._pop_denied(message)

    def clear(self) -> None:
        """Forget all."""
        for kept in (self._denied, self._refused, self._refusals):
            kept.clear()

    def _pop_denied(self, message: Message) -> bool:
        denied = self._denied.get(message.topic)
        if denied is None or denied.message.key != message.key:
            return False
        del self._denied[message.topic]
        return True

    def _all(self) -> Iterator[_Aside]:
        yield from self._denied.values()
        yield from self._refused.values()
