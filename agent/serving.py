"""Who asks a running agent is answered: over MQTT, at its control socket, and by Prometheus' endpoint."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from agent.control import Control, socket_folder
from agent.errors import AgentError
from agent.operations import REMOTE

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from agent.config import Config
    from agent.monitor import Monitor
    from agent.operations import Operations
    from agent.outlet import Outlet

log = logging.getLogger(__name__)


def serve(
    operations: Operations,
    monitor: Monitor,
    outlet: Outlet,
    *,
    configuration: Callable[[], Config],
    state_dir: Path,
    stack: ExitStack,
) -> None:
    """Answer until `stack` is closed; cameras of the `configuration` may change meanwhile.

    What can't be served is told, and no reason to end.
    """
    config = configuration()
    if config.mqtt is not None:
        from agent.announcing import announce  # who has no broker needs neither
        from agent.commands import Commands

        stack.enter_context(announce(outlet, configuration, state_dir=state_dir))
        if config.commands.enabled:
            reserved = config.homeassistant.prefix
            commands = stack.enter_context(Commands(operations, outlet, names=REMOTE, reserved=reserved))
            monitor.commands = commands.counts
    try:
        stack.enter_context(Control(socket_folder(state_dir, os.environ), operations))
    except AgentError as fault:
        log.warning("`edge-agent status` can't ask this agent: %s", fault)
    if (address := config.metrics.address) is not None:
        from agent.metrics.endpoint import Endpoint  # who is not asked needs no prometheus-client

        try:
            stack.enter_context(Endpoint(*address, monitor.snapshot))
        except AgentError as fault:
            log.error("no metrics: %s", fault)
