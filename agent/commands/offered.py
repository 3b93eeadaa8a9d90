"""The model that an operator offers to all devices, and how far this device is with it: told for Home Assistant."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from agent.commands.judging import Rejected
from agent.wire import SCHEMA_VERSION, Command, ModelOffer, ModelUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.outlet import Outlet
    from agent.transport import Received

log = logging.getLogger(__name__)

INSTALL = b"install"
"""What Home Assistant sends: its update entity can send nothing but fixed text."""
_MAX_BYTES = 4096
_VALID_S = 60.0


class Offered:
    """Keeps the last offer, makes a command of it, and publishes the model at work; `status` asks the agent."""

    def __init__(self, outlet: Outlet, status: Callable[[], object]) -> None:
        self._outlet, self._status = outlet, status
        self._offer: ModelOffer | None = None
        self._name, self._version, self._installing = "", 0, False
        self._percent: int | None = None
        self._told: ModelUpdate | None = None

    def take(self, received: Received) -> None:
        """Keep an offer; one that can't be read is none. On the publisher's thread."""
        self._offer = None
        if received.payload:
            try:
                if len(received.payload) > _MAX_BYTES:
                    raise ValueError(f"{len(received.payload)} bytes")
                self._offer = msgspec.json.decode(received.payload, type=ModelOffer)
            except (ValueError, RecursionError) as fault:
                log.warning("%s: no offer of a model: %s", received.topic, fault)
        self._tell()

    def command(self, received: Received, utc_s: float) -> Command | Rejected:
        """Return the command to install what is offered, or why there is none."""
        offer = self._offer
        if received.retained:
            return Rejected("retained", "send it without")
        if received.payload != INSTALL:
            return Rejected("malformed", f"{INSTALL.decode()!r} is expected here")
        if offer is None:
            return Rejected("unknown", f"no model is offered on {self._outlet.topics.model_available}")
        expires = datetime.fromtimestamp(utc_s, timezone.utc) + timedelta(seconds=_VALID_S)
        args = {"url": offer.url, "sha256": offer.sha256, "version": offer.version}
        return Command(SCHEMA_VERSION, f"update-{secrets.token_hex(8)}", expires, "model.install", args)

    def progress(self, told: Mapping[str, object]) -> None:
        """Tell how far an installation is."""
        done, whole = told.get("bytes"), told.get("of_bytes")
        if isinstance(done, int) and isinstance(whole, int) and whole > 0:
            self._percent = min(100, max(0, done * 100 // whole))
        self._installing = True
        self._tell()

    def settled(self) -> None:
        """Tell that an installation is over, however it ended."""
        self._installing, self._percent = False, None
        self.look()

    def look(self) -> None:
        """Tell which model is at work now."""
        status: Any = msgspec.to_builtins(self._status())
        if model := status.get("model"):
            self._name, self._version = model["name"], model["version"]
        self._tell()

    def _tell(self) -> None:
        if not self._name:
            return
        installed = f"{self._name} {self._version}"
        offered = (
            f"{self._offer.name} {self._offer.version}" if self._offer and self._is_newer(self._offer) else ""
        )
        now = ModelUpdate(SCHEMA_VERSION, installed, offered or installed, self._installing, self._percent)
        if now != self._told:
            self._told = now
            self._outlet.publisher.retain(self._outlet.topics.model, msgspec.json.encode(now))

    def _is_newer(self, offer: ModelOffer) -> bool:
        """Return whether `offer` is no older version of the model at work: versions of two models don't compare."""
        return offer.name != self._name or offer.version >= self._version
