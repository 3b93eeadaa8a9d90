"""Models are opened on a thread of their own: that takes long, and a stop does not wait for it."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.happenings import Loaded
from agent.signals import RELOAD
from agent.watch import check_cameras

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.config import CameraConfig
    from agent.engines import Engines
    from agent.happenings import Happening, Happenings

BUSY_AGAIN_S = 20.0
"""How often systemd is told how far the build of an engine is: well before it gives up on us."""


def stopped_while_loading(
    cameras: Sequence[CameraConfig],
    engines: Engines,
    happenings: Happenings,
    busy: Callable[[str], None],
) -> bool:
    """Open the models of `cameras` and try their settings; return whether a stop was asked for meanwhile.

    Whatever else happens is left for later. `busy` hears now and then of what can't be hurried, a build or a trial.
    Raises AgentError.
    """

    def load() -> None:
        try:
            check_cameras(cameras, engines)
        except BaseException as fault:  # noqa: BLE001  it is raised in the main thread
            happenings.put(Loaded(fault))
        else:
            happenings.put(Loaded())

    threading.Thread(target=load, name="loading", daemon=True).start()
    later: list[Happening] = []
    while not isinstance(what := _next(happenings, engines, busy), Loaded):
        if isinstance(what, str) and what != RELOAD.name:
            return True
        later.append(what)
    for each in later:
        happenings.put(each)
    if what.fault is not None:
        raise what.fault
    return False


def _next(happenings: Happenings, engines: Engines, busy: Callable[[str], None]) -> Happening:
    while True:
        with suppress(queue.Empty):
            return happenings.get(timeout=BUSY_AGAIN_S)
        if engines.building:
            busy(engines.building)
