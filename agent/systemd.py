"""What systemd is told of this process: ready, how it goes, alive, reloading, stopping: sd_notify(3) in Python."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long past its deadline a call may be before the watchdog is set off. It would take its 30 s from the last sign
of life; with 10 s of deadline, 5 s to abort and the start after it that is more than the 45 s a hang may last."""
BUSY_S = 300.0
"""How long models may be loaded and an outbox be repaired, with signs of life all the while."""
_FEED_S, _EXTEND_S = 5.0, 60.0
_SEND_S = 1.0
_MAX_WORDS = 200


class Systemd:
    """The service manager that started this process; where there is none, nothing is told. For any thread.

    `environ` holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as sd_notify(3) and sd_watchdog_enabled(3) have it.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog(environ)
        self._lock = threading.Lock()
        self._ready = self._reloading = self._stopping = self._failed = False
        self._words = ""
        self._relieved = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._relieved.set()

    @property
    def manages(self) -> bool:
        """Whether a service manager is there."""
        return bool(self._address)

    def look(self, state: str, reasons: Sequence[str] = (), *, ready: bool, overdue_s: float = 0.0) -> None:
        """Tell how it goes, about once a second: feed the watchdog unless `state` is "stuck", set it off when hopeless.

        `ready`: what is to be said once, the service has started: the first inference is done, or it is clear
        that there is none to wait for. `overdue_s`: for how long the call that hangs is past its deadline.
        """
        with self._lock:
            self._relieved.set()
            fields = []
            if self._watchdog and state != "stuck":
                fields.append("WATCHDOG=1")
            elif self._watchdog and overdue_s > PATIENCE_S:
                fields.append("WATCHDOG=trigger")
            quiet = self._reloading or self._stopping
            if ready and not self._ready and state != "stuck" and not quiet:
                self._ready = True
                fields.append("READY=1")
            self._tell(fields, "" if quiet else in_words(state, reasons, ready=self._ready))

    def busy(self, why: str) -> None:
        """Feed and ask for time from a thread of its own until the next `look`, for BUSY_S at most.

        For what takes long while nobody looks around: to load models, to open and repair the outbox.
        """
        with self._lock:
            self._relieved.set()
            if not self._address or self._stopping:
                return
            self._relieved = threading.Event()
            until_s = time.monotonic() + BUSY_S
            threading.Thread(
                target=self._feed, args=(self._relieved, why, until_s), name="systemd", daemon=True
            ).start()

    def reloading(self) -> None:
        """Tell that the configuration is read again."""
        with self._lock:
            self._ready, self._reloading = False, True
            self._tell(["RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"], "reloading")

    def reloaded(self) -> None:
        """Let the next `look` that is ready tell that the reload is done."""
        with self._lock:
            self._reloading = False

    def stopping(self, why: str) -> None:
        """Tell that the end has begun."""
        with self._lock:
            self._stopping = True
            self._relieved.set()
            self._tell(["STOPPING=1"], f"stopping: {why}")

    def extend(self, timeout_s: float, why: str) -> None:
        """Ask for `timeout_s` from now on for a start or stop that takes long and goes on, and tell why."""
        with self._lock:
            self._tell([f"EXTEND_TIMEOUT_USEC={round(timeout_s * 1e6)}"], why)

    def _feed(self, relieved: threading.Event, why: str, until_s: float) -> None:
        while time.monotonic() < until_s:
            with self._lock:
                if relieved.is_set():
                    return
                fields = ["WATCHDOG=1"] if self._watchdog else []
                if not self._ready:
                    fields.append(f"EXTEND_TIMEOUT_USEC={round(_EXTEND_S * 1e6)}")
                self._tell(fields, why)
            relieved.wait(_FEED_S)

    def _tell(self, fields: list[str], words: str) -> None:
        """Send `fields`, and `words` where they are new. A manager that does not listen is told of once."""
        if words and words != self._words:
            self._words = words
            fields = [*fields, f"STATUS={words}"]
        if not self._address or not fields:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.settimeout(_SEND_S)
                link.sendto("\n".join(fields).encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("systemd does not hear this process: %s", error.strerror or error)
            self._failed = True


def in_words(state: str, reasons: Sequence[str], *, ready: bool) -> str:
    """Return the line that `systemctl status` shows."""
    shown = redact("; ".join(" ".join(reason.split()) for reason in reasons))
    text = f"{state}: {shown}" if shown else state if ready else "starting: no inference yet"
    return text if len(text) <= _MAX_WORDS else f"{text[: _MAX_WORDS - 3]}..."


def _address(name: str) -> str:
    """Return what to send to; "" for a kind of address that is not ours to know."""
    return "\0" + name[1:] if name.startswith("@") else name if name.startswith("/") else ""


def _watchdog(environ: Mapping[str, str]) -> bool:
    """Tell whether systemd waits for signs of life from this very process."""
    whose = environ.get("WATCHDOG_PID", str(os.getpid()))
    return environ.get("WATCHDOG_USEC", "").isdecimal() and whose == str(os.getpid())
