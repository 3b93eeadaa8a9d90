"""The broker: whether this device can connect, log in and publish, by the agent's own transport."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from agent import __version__
from agent.check.finding import Finding, fault, ok, warning
from agent.mqtt.options import fix_for
from agent.mqtt.transport import MqttTransport
from agent.transport import Message, Outcome, Report

if TYPE_CHECKING:
    from agent.mqtt.options import MqttOptions

WHAT = "broker"
_SECOND_TRY_S = 3.0
"""After a failure: enough for a second connection, with MQTT 3.1.1 where 5 was met with silence."""
_ANSWER_S = 10.0
_POLL_S = 0.1


def limit_s(options: MqttOptions) -> float:
    """Return how long `check` may take in all."""
    return options.connect_timeout_s * 2 + _SECOND_TRY_S + _ANSWER_S


def check(options: MqttOptions, *, base: str) -> list[Finding]:
    """Connect and publish one message, not retained, on `<base>/check`; a running agent is not disturbed.

    The connection has a client id of its own and no will. Raises BadConfig for certificates.
    """
    own = replace(
        options, client_id=f"{options.client_id or base}-check", backoff_first_s=0.5, backoff_max_s=1.0
    )
    transport = MqttTransport(own)
    try:
        error = _connect(transport, own.connect_timeout_s)
        if error:
            text = f"{own.where}: {error} (as client {own.client_id})"
            return [fault(WHAT, text, fix=fix_for(error))]
        protocol, began_s = transport.link.protocol, time.monotonic()
        report = _publish(transport, f"{base}/check")
        took_ms = (time.monotonic() - began_s) * 1e3
    finally:
        transport.close()
    return _verdict(own, report, protocol=protocol, topic=f"{base}/check", took_ms=took_ms)


def _connect(transport: MqttTransport, limit_s: float) -> str:
    """Poll until connected; return "" or the last error. A login that is refused is not tried again."""
    end_s = time.monotonic() + limit_s + _SECOND_TRY_S
    error = ""
    while time.monotonic() < end_s:
        transport.poll(_POLL_S)
        link = transport.link
        if link.connected:
            return ""
        if link.error and not error:
            end_s = min(end_s, time.monotonic() + _SECOND_TRY_S)
        error = link.error or error
        if error.startswith("refused:"):
            return error
    return error or f"no answer within {limit_s:g} s"


def _publish(transport: MqttTransport, topic: str) -> Report:
    """Send the one message and return what became of it."""
    payload = json.dumps({"check": "edge-agent", "version": __version__}).encode()
    transport.send(Message(topic, topic, payload))
    end_s = time.monotonic() + _ANSWER_S
    while time.monotonic() < end_s:
        for report in transport.poll(_POLL_S):
            return report
    return Report(topic, Outcome.LOST, f"no answer within {_ANSWER_S:g} s")


def _verdict(
    options: MqttOptions, report: Report, *, protocol: str, topic: str, took_ms: float
) -> list[Finding]:
    if report.outcome is Outcome.DELIVERED:
        rows = [
            ok(
                WHAT,
                f"{options.where}: {protocol}, {topic} published in {took_ms:.0f} ms, as client {options.client_id}",
            )
        ]
        if protocol == "MQTT 3.1.1":
            text = "MQTT 3.1.1: a publish that the access list denies looks delivered"
            rows.append(warning(WHAT, text, fix="use a broker with MQTT 5, such as mosquitto 2"))
        return rows
    why = report.detail or "connection lost"
    text = f"{options.where}: publishing on {topic}: {report.outcome.value}: {why} (as client {options.client_id})"
    if report.outcome is Outcome.DENIED:
        below = topic.rpartition("/")[0]
        name = options.username or "this device"
        return [
            fault(WHAT, text, fix=f"let {name} write {below}/#; in mosquitto's ACL: topic write {below}/#")
        ]
    if report.outcome is Outcome.BUSY:
        return [fault(WHAT, text, fix="raise the broker's quota for this device")]
    return [fault(WHAT, text, fix="look at the broker's log for this client")]
