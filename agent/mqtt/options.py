"""Where the broker is and how to talk to it, as given or as told by a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from agent.errors import UsageError
from agent.urls import redact

if TYPE_CHECKING:
    from pathlib import Path

_FIXES = (
    ("bad user name or password", "correct username and password_file"),
    ("not authori", "give the right username and password_file, or the right login in the URL"),
    ("client identifier", "choose another client_id"),
    ("banned", "the broker has shut this client out: look at its log"),
    ("refused", "check host and port, and that the broker runs and listens on the network"),
    ("name or service", "check the host name, or give the address"),
    ("name resolution", "check the host name and this device's DNS, or give the address"),
    ("not yet valid", "let this device reach a time server: its clock is behind"),
    ("has expired", "renew the broker's certificate, or set this device's clock if that is wrong"),
    ("certificate required", "give cert_file and key_file: the broker wants a certificate of this device"),
    (
        "certificate",
        "give the authority of the broker's certificate as ca_file, and the name that it was issued for",
    ),
    ("ssl", "use mqtts:// (tls = true) only on the broker's TLS port, usually 8883"),
    ("no connack", "check the port: something answers that is no MQTT broker, or wants TLS"),
    ("closed the connection", "check the port: 1883 is usually plain, 8883 TLS; look at the broker's log"),
    ("reset by peer", "check the port: 1883 is usually plain, 8883 TLS; look at the broker's log"),
    ("connection lost", "check the port: 1883 is usually plain, 8883 TLS; look at the broker's log"),
)
_FIX = "check host, port and network"
_URL_FIX = "give mqtt://host:port or mqtts://host:port; a login stands before the host, as in any URL"


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """Where the broker is and how to talk to it.

    `tls` without `ca_file` trusts the system's authorities; `protocol` "auto" is 5, else 3.1.1.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_id: str = ""
    protocol: Literal["auto", "3.1.1"] = "auto"
    keepalive_s: int = 30
    max_in_flight: int = 64
    connect_timeout_s: float = 10.0
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    stable_s: float = 60.0
    login_retry_s: float = 60.0

    def __repr__(self) -> str:
        return f"MqttOptions({self.where})"

    @property
    def where(self) -> str:
        """The broker as shown to people: no credentials."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def parse_url(url: str, **more: Any) -> MqttOptions:
    """Return the options of mqtt[s]://[user[:password]@]host[:port][?protocol=3.1.1]; `more` sets others.

    Raises UsageError.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise UsageError("broker URL", seen=redact(url), fix=_URL_FIX) from fault
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or parts.path.strip("/"):
        raise UsageError("broker URL", seen=redact(url), fix=_URL_FIX)
    if parts.query not in {"", "protocol=3.1.1"}:
        raise UsageError("broker URL", seen=redact(url), fix="the one option there is: ?protocol=3.1.1")
    tls = parts.scheme == "mqtts"
    old: dict[str, Any] = {"protocol": "3.1.1"} if parts.query else {}
    login = {
        "username": None if parts.username is None else unquote(parts.username),
        "password": None if parts.password is None else unquote(parts.password),
    }
    return MqttOptions(parts.hostname, port or (8883 if tls else 1883), tls=tls, **{**login, **old, **more})


def fix_for(error: str) -> str:
    """Return what to do about a connection that did not come about: `error` is the broker's or system's word."""
    return next((fix for part, fix in _FIXES if part in error.lower()), _FIX)
