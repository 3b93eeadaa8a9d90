"""Alternated runs: a noisy machine disturbs all alike, so each run is judged by those right beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.bench.figures import Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.bench.figures import Run


def alternate(
    reference: Callable[[], Run] | None, contenders: Mapping[str, Callable[[], Run]], *, rounds: int
) -> Iterator[Round]:
    """Yield `rounds` rounds: reference, first, reference, second, reference, ...

    The last reference run of a round is the first of the next. Without a reference the contenders alone run.
    """
    references = [reference()] if reference else []
    for _ in range(rounds):
        runs = {}
        for name, contender in contenders.items():
            runs[name] = contender()
            if reference:
                references.append(reference())
        yield Round(tuple(references), runs)
        references = references[-1:]
