"""An independent subscriber in a process of its own: `python -m tests.faults.witness --port PORT --out FILE`.

A plain paho client, QoS 1, whose session the broker keeps while either is away. It writes a line for every message
before it acknowledges it:

    C                            connected, and subscribed
    E <id> <dup> <type> <event>  an event; dup 1: the broker hands it over once more
    G <json>                     a gap
    B <json>                     a birth
    F <text>                     a fence: nothing that the broker had before it comes after it
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FENCE = "fence"
_FOR_EVER_S = 0xFFFFFFFF
_TLS = ("ca_certs", "certfile", "keyfile")


class Head(msgspec.Struct):
    """What is kept of an event."""

    id: str
    type: str
    event_id: str


def line_of(topic: str, payload: bytes, *, dup: bool) -> str | None:
    """Return the line for a message; None for one that is not recorded."""
    kind = topic.split("/")[2] if topic.count("/") > 1 else topic
    if kind == "events":
        head = msgspec.json.decode(payload, type=Head)
        return f"E {head.id} {dup:d} {head.type} {head.event_id}"
    if kind == "gap":
        return f"G {payload.decode()}"
    if kind == "status" and b'"state":"online"' in payload:
        return f"B {payload.decode()}"
    if topic == FENCE:
        return f"F {payload.decode()}"
    return None


def follow(host: str, port: int, tls: Mapping[str, str], write: Callable[[str], Any]) -> None:
    """Write a line for every message, for ever. `tls`: arguments of paho's tls_set; none: without TLS."""

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        line = line_of(message.topic, message.payload, dup=message.dup)
        if line is not None:
            write(line + "\n")

    client = Client(CallbackAPIVersion.VERSION2, client_id="witness", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = lambda c, *_: c.subscribe([("edge/#", 1), (FENCE, 1)])
    client.on_subscribe = lambda *_: write("C\n")
    client.on_message = on_message
    client.reconnect_delay_set(1, 1)
    keep = Properties(PacketTypes.CONNECT)
    keep.SessionExpiryInterval = _FOR_EVER_S
    if tls:
        client.tls_set(**tls)
    client.connect(host, port, clean_start=False, properties=keep)
    client.loop_forever()


def main() -> int:
    """Follow until killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    for name in _TLS:
        parser.add_argument(f"--{name}", dest=name)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with args.out.open("a", buffering=1, encoding="utf-8") as out:
        tls = {name: value for name in _TLS if (value := getattr(args, name))}
        follow(args.host, args.port, tls, out.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
