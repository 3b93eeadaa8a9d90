"""Home Assistant and a real agent over a real broker: every entity has a state made of what the agent publishes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent.starter import sample_clip
from tests import homeassistant_rules as rules
from tests.e2e.brokers import Subscriber, mosquitto, wait_for
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.brokers import Process

ROOT = Path(__file__).parents[2]
TOPIC = "homeassistant/device/test/config"
CONFIG = """
device = "test"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
port = {port}
[homeassistant]
enabled = {enabled}
[[camera]]
name = "yard"
source = "{clip}"
{more}
"""
GATE = """
[[camera]]
name = "gate"
source = "{clip}"
[camera.detect]
labels = ["person"]
"""


class Home:
    """A broker, its last message of each topic, and an agent that can be started and stopped."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.seen = Subscriber(port)
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        """End the clients."""
        self.seen.__exit__()
        self._client.disconnect()
        self._client.loop_stop()

    def start(self, *, enabled: bool = True, more: str = "") -> None:
        """Start the agent."""
        text = CONFIG.format(port=self._port, enabled=str(enabled).lower(), clip=sample_clip(), more=more)
        (self._folder / "config.toml").write_text(text)
        command = [sys.executable, "-m", "agent", "run", "--config", str(self._folder / "config.toml")]
        self.agent = subprocess.Popen(command, cwd=ROOT)

    def stop(self) -> None:
        """Stop it in order."""
        self.agent.send_signal(signal.SIGTERM)
        assert self.agent.wait(HANGS_S) == 0

    def publish(self, topic: str, payload: bytes) -> None:
        """Send something."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(HANGS_S)

    def last(self, topic: str) -> bytes:
        """Return the last message on `topic`, b"" without any."""
        return next((payload for at, payload, _ in reversed(list(self.seen.messages)) if at == topic), b"")

    def wait(self, topic: str, text: str) -> None:
        """Wait until the last message on `topic` has `text` in it."""
        wait_for(lambda: text in self.last(topic).decode(), HANGS_S, f"{text} on {topic}")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Yield a home with a broker."""
    with mosquitto(tmp_path) as broker:
        broker_process: Process = broker
        home = Home(tmp_path, broker_process.port)
        try:
            yield home
        finally:
            home.close()
            if home.agent.poll() is None:
                home.agent.kill()
                home.agent.wait()


def test_every_entity_has_a_state(home: Home) -> None:
    """By the rules, with templates rendered on real payloads; the switch's command is done; going away is seen."""
    home.start()
    home.wait(TOPIC, '"yard.person.count"')
    home.wait("edge/test/model", "installed_version")
    home.wait("edge/test/health", '"ok"')
    home.wait("edge/test/stats", "values")
    home.wait("edge/test/events/yard", "event_id")
    components = rules.check(TOPIC, home.last(TOPIC))
    states = {name: rules.state(each, home.last(each["stat_t"])) for name, each in components.items()}
    for name in ("connectivity", "yard.connectivity", "yard.enabled"):
        assert states[name] is True
    assert states["problem"] is False
    for name in (
        "fps",
        "inference",
    ):  # told at once, then every half a minute: nothing may have been inferred yet
        assert states[name] is None or states[name] >= 0
    assert states["model"]["installed_version"] == states["model"]["latest_version"]
    assert states["yard.event"]["label"]
    before = len(home.seen.payloads(TOPIC))
    home.publish("homeassistant/status", b"online")
    wait_for(lambda: len(home.seen.payloads(TOPIC)) > before, HANGS_S, "the message again")
    switch = components["yard.enabled"]
    home.publish(switch["cmd_t"], json.dumps(rules.command(switch["cmd_tpl"], "OFF")).encode())
    wait_for(lambda: not rules.state(switch, home.last(switch["stat_t"])), HANGS_S, "the camera to be off")
    home.stop()
    status = home.last(components["connectivity"]["stat_t"])
    assert rules.state(components["connectivity"], status) is False
    assert rules.render(json.loads(home.last(TOPIC))["avty"][0]["val_tpl"], status) == "offline"


def test_what_leaves_is_taken_back(home: Home) -> None:
    """A camera that is gone from the configuration is removed, and all when Home Assistant is disabled."""
    home.start(more=GATE.format(clip=sample_clip()))
    home.wait(TOPIC, '"gate.person.occupancy"')
    home.stop()
    home.start()
    home.wait(TOPIC, '"gate.event":{"p":"event"}')
    home.stop()
    assert home.last(TOPIC)
    home.start(enabled=False)
    wait_for(lambda: not home.last(TOPIC), HANGS_S, "the empty message")
    home.wait("edge/test/status", "online")
    home.stop()
    with Subscriber(home._port, "homeassistant/#") as late:
        assert not late.messages
