"""A broker and a subscriber in the network of one host, which has no other."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.e2e.brokers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.host import Host


class Listener:
    """An independent subscriber in a host's network: `lines` of topic, blank, payload, in the order of arrival."""

    def __init__(self, host: Host) -> None:
        command = ("mosquitto_sub", "-V", "mqttv5", "-q", "1", "-t", "#", "-F", "%t %p", "-W", "900")
        self.lines: list[str] = []
        self._process = host.beside(*command, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def has(self, part: str, after: int = 0) -> bool:
        """Tell whether a topic that contains `part` was heard, from line `after` on."""
        return any(part in line.partition(" ")[0] for line in self.lines[after:])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)


@contextlib.contextmanager
def broker(host: Host, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run mosquitto on 127.0.0.1:1883 of the host's network."""
    config = folder / "mosquitto.conf"
    config.write_text("listener 1883 127.0.0.1\nuser root\nallow_anonymous true\n")
    process = host.beside(
        "mosquitto", "-c", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        answers = ("bash", "-c", "</dev/tcp/127.0.0.1/1883")
        wait_for(lambda: host.run(*answers, check=False).returncode == 0, 15, "the broker to listen")
        yield process
    finally:
        process.kill()
        process.wait()
