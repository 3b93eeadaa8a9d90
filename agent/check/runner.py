"""Runs checks in threads and waits for each of them no longer than it may take."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.check.finding import Finding, fault, fault_of
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Check:
    """A thing to look at: its name, the work, and the time that may take before it counts as hanging."""

    what: str
    work: Callable[[], Sequence[Finding]]
    limit_s: float
    hangs: str = "run the check again; when it hangs again, report it"
    """What to do when it does not come back."""


def run_together(checks: Sequence[Check]) -> Iterator[Finding]:
    """Run `checks` at the same time; yield the rows of each as soon as it is done.

    A check that raises is a fault. One that does not come back within its `limit_s` is a fault too, and is
    left behind in its daemon thread.
    """
    done: queue.SimpleQueue[tuple[int, Sequence[Finding]]] = queue.SimpleQueue()
    started_s = time.monotonic()
    for number, check in enumerate(checks):
        threading.Thread(
            target=lambda n=number, c=check: done.put((n, _findings(c))), name=check.what, daemon=True
        ).start()
    open_ = dict(enumerate(checks))
    while open_:
        number, late = min(open_.items(), key=lambda item: item[1].limit_s)
        rest_s = started_s + late.limit_s - time.monotonic()
        try:
            number, findings = done.get(timeout=max(0.0, rest_s))
        except queue.Empty:
            findings = [fault(late.what, f"no answer within {late.limit_s:.0f} s", fix=late.hangs)]
        if open_.pop(number, None) is not None:  # one that was given up may still come back
            yield from findings


def _findings(check: Check) -> Sequence[Finding]:
    try:
        return check.work()
    except AgentError as error:
        return [fault_of(check.what, error)]
    except Exception as error:  # noqa: BLE001 - the outermost loop of a check: the others go on
        text = f"internal error: {type(error).__name__}: {error}"
        return [fault(check.what, text, fix="report it, with the output of `edge-agent -vv check`")]
