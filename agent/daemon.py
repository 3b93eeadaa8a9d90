"""Runs the agent until it is told to stop or all is done, one configuration after the other."""

from __future__ import annotations

import logging
import queue
import sys
from typing import TYPE_CHECKING

from agent import stateschema
from agent.allocator import use_one_arena
from agent.errors import AgentError
from agent.lastwords import LastWords, stopped_within
from agent.service import Service
from agent.signals import signals_into
from agent.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.happenings import Happening
    from agent.pipeline import Result
    from agent.runoptions import RunOptions

log = logging.getLogger(__name__)

GIL_SWITCH_S = 0.0005
"""How long a thread may keep the interpreter when another wants it; Python's own 5 ms is an inference."""


def run(options: RunOptions, recorders: Sequence[Callable[[Result], None]] = ()) -> None:
    """Run until every source has ended or SIGTERM or SIGINT comes; then end open events and drain.

    `recorders` get the result of every inferred frame before its events are queued.
    Raises AgentError; TryAgain when messages are left for the next start.
    """
    sys.setswitchinterval(GIL_SWITCH_S)
    use_one_arena()
    happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()
    systemd = Systemd()
    if options.keeps_state:
        stateschema.claim(options.state_dir)
    folder = options.state_dir if options.reload is not None else None
    with signals_into(happenings, reload=options.reload is not None), LastWords(folder) as words, systemd:
        if systemd.manages and not options.on_trial and stopped_within(words.wait_s, happenings, systemd):
            return
        following: RunOptions | None = options
        good: RunOptions | None = None
        while following is not None:
            service = Service(following, recorders, happenings, systemd, words)
            try:
                following, good = service.run(), service.options
                if following is not None:
                    log.info("reload: more than cameras is new: starting anew as %s", following.config.device)
            except AgentError as fault:
                if service.started or good is None:
                    raise
                log.error("reload: %s: the configuration before it stays", fault)
                following, good = good, None
