"""The other end of a command: sends one to a device, and hears what becomes of it."""

from __future__ import annotations

import secrets
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import msgspec

from agent.errors import NotPermitted, TryAgain
from agent.mqtt import reasons
from agent.mqtt.client import V5
from agent.mqtt.follow import Follower
from agent.mqtt.receiving import properties_of
from agent.wire import SCHEMA_VERSION, Command, CommandResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paho.mqtt.client import Client as PahoClient
    from paho.mqtt.client import MQTTMessage

    from agent.mqtt.client import Client
    from agent.mqtt.options import MqttOptions
    from agent.topics import Topics

_QOS = 1
_LAST = frozenset({"done", "failed", "rejected"})


class Request:
    """One command. `tell` gets each answer as it comes; what is told twice after a lost connection comes twice."""

    def __init__(
        self,
        options: MqttOptions,
        topics: Topics,
        op: str,
        args: Mapping[str, object],
        *,
        timeout_s: float,
        tell: Callable[[CommandResult], None] = lambda _: None,
    ) -> None:
        self._options, self._topics, self._timeout_s, self._tell = options, topics, timeout_s, tell
        self.id = secrets.token_hex(16)
        expires = datetime.now(timezone.utc) + timedelta(seconds=max(timeout_s, 1.0))
        self._command = msgspec.json.encode(Command(SCHEMA_VERSION, self.id, expires, op, dict(args)))
        self._answer: CommandResult | None = None
        self._denied = self._unheard = False

    def run(self, stopping: Callable[[], bool] = lambda: False) -> CommandResult:
        """Send it, again after each lost connection, and return the last answer: done, failed or rejected.

        Raises TryAgain when none came in time, ServiceAway without a broker, NotPermitted.
        """
        end_s = time.monotonic() + self._timeout_s
        filters = [f"{self._topics.command_result}/#"]  # and the topic above: also an answer from MQTT 3.1.1
        follower = Follower(self._options, filters, self._hear, on_granted=self._send)
        follower.run(lambda: self._over() or stopping() or time.monotonic() >= end_s)
        if self._denied:
            fix = f"let this login write {self._topics.command}"
            raise NotPermitted("the broker denies the command", seen=self._topics.command, fix=fix)
        if self._unheard:
            fix = "is the device connected, its name right, and [commands] enabled there?"
            raise TryAgain(f"nobody listens on {self._topics.command}", fix=fix)
        if self._answer is None or self._answer.state not in _LAST:
            last = f"{self._answer.state} was the last" if self._answer else "none"
            fix = "wait longer (--timeout); the device may be away, or too many commands come to it"
            raise TryAgain(f"no answer within {self._timeout_s:g} s", seen=last, fix=fix)
        return self._answer

    def _over(self) -> bool:
        return self._denied or self._unheard or (self._answer is not None and self._answer.state in _LAST)

    def _send(self, client: Client) -> None:
        client.on_answer = self._answered
        properties = None
        if self._options.protocol == "auto":
            properties = properties_of(self.id.encode(), f"{self._topics.command_result}/{self.id}")
        client.publish(self._topics.command, self._command, _QOS, properties=properties)

    def _answered(self, client: PahoClient, _packet_id: int, code: int) -> None:
        self._denied = code == reasons.NOT_AUTHORISED
        self._unheard = code == reasons.NO_SUBSCRIBERS and client.protocol == V5

    def _hear(self, message: MQTTMessage) -> None:
        try:
            answer = msgspec.json.decode(message.payload, type=CommandResult)
        except (ValueError, RecursionError):
            return
        if answer.id == self.id and not (self._answer is not None and self._answer.state in _LAST):
            self._answer = answer
            self._tell(answer)
