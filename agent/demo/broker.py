"""A broker for the demo, on loopback, as a child process: mosquitto where it is installed, else amqtt.

`python -m agent.demo.broker PORT` is that child with amqtt.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.errors import InputMissing, ServiceAway
from agent.ownprogram import command_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BrokerKind = Literal["auto", "mosquitto", "amqtt"]
_MQTT_5, _MQTT_3_1_1 = 5, 4  # the protocol levels of CONNECT
_START_S = 20.0
_STOP_S = 3.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. `protocol` is the newest MQTT version it speaks: 5, or 4 for 3.1.1."""

    name: str
    port: int
    protocol: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """What the agent gets as --broker."""
        old = "" if self.protocol >= _MQTT_5 else "?protocol=3.1.1"  # amqtt meets MQTT 5 with silence
        return f"mqtt://127.0.0.1:{self.port}{old}"

    def check(self) -> None:
        """Raise ServiceAway if the broker has ended, with what it wrote last."""
        if self.process.poll() is not None:
            raise ServiceAway(f"the broker {self.name} ended", seen=last_line(self.log), fix="run it again")


@contextmanager
def running_broker(folder: Path, kind: BrokerKind = "auto") -> Iterator[Broker]:
    """Start a broker on a free port of 127.0.0.1, with its files in `folder`, and end it afterwards.

    Raises InputMissing when there is none of that kind, ServiceAway when it does not start.
    """
    program = mosquitto() if kind != "amqtt" else None
    if program is None and (kind == "mosquitto" or importlib.util.find_spec("amqtt") is None):
        fix = "apt install mosquitto" + ("" if kind == "mosquitto" else ", or pip install 'edge-agent[demo]'")
        raise InputMissing("no MQTT broker for the demo", fix=fix)
    port, log = _free_port(), folder / "broker.log"
    command = _mosquitto_command(program, port, folder) if program else _amqtt_command(port)
    with log.open("wb") as out, child(command, stdout=out, stderr=out) as process:
        broker = Broker(
            "mosquitto" if program else "amqtt",
            port,
            _MQTT_5 if program else _MQTT_3_1_1,
            process=process,
            log=log,
        )
        _wait_until_open(broker)
        yield broker


@contextmanager
def child(
    command: list[str], *, stop_s: float = _STOP_S, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in a session of its own (Ctrl-C reaches us alone), end it by SIGTERM, then SIGKILL."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)  # type: ignore[call-overload]  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(stop_s)
        finally:  # also when a second Ctrl-C ends the wait
            process.kill()
            process.wait()


def mosquitto() -> str | None:
    """Return the path of mosquitto; Debian puts it where only root's PATH looks."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


def last_line(log: Path) -> str:
    """Return the last line of `log` that says anything."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")


def _mosquitto_command(program: str, port: int, folder: Path) -> list[str]:
    config = folder / "mosquitto.conf"
    lines = (f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence false", "log_dest stderr")
    config.write_text("\n".join((*lines, "log_type error", "log_type warning", "")))
    return [program, "-c", str(config)]


def _amqtt_command(port: int) -> list[str]:
    return command_of("agent.demo.broker", str(port))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_open(broker: Broker) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        broker.check()
        with suppress(OSError), socket.create_connection(("127.0.0.1", broker.port), timeout=1.0):
            return
        time.sleep(_POLL_S)
    raise ServiceAway(f"the broker {broker.name} did not start", seen=f"{_START_S:.0f} s", fix="run it again")


def _serve(port: int) -> None:
    """Run amqtt until SIGTERM, silent but for errors."""
    import asyncio
    import logging

    from amqtt.broker import Broker as Amqtt

    logging.basicConfig(level=logging.CRITICAL)
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }

    async def serve() -> None:
        await Amqtt(config).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
