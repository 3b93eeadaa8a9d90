"""Which version of MQTT is spoken: 5 first, 3.1.1 with a broker that knows no other."""

from __future__ import annotations

from agent.mqtt.client import V5, V311

_NAMES = {V5: "MQTT 5", V311: "MQTT 3.1.1"}


class Protocols:
    """The version of this connection, or of the next try. With `only_old` it is 3.1.1 always."""

    def __init__(self, *, only_old: bool) -> None:
        self._first = V311 if only_old else V5
        self.current = self._first

    def __str__(self) -> str:
        return _NAMES[self.current]

    @property
    def new(self) -> bool:
        """Whether it is MQTT 5."""
        return self.current is V5

    def refused(self) -> bool:
        """Note that the broker says it does not know this version; return whether there is another to try."""
        known, self.current = self.new, V311
        return known

    def silent(self) -> None:
        """Note that no CONNACK came: a broker may not know MQTT 5 (amqtt is silent); the next try is with the other."""
        self.current = V311 if self.new else self._first

    def begin(self) -> None:
        """Begin with the first again: a broker that restarts is not to be taken for an old one."""
        self.current = self._first
