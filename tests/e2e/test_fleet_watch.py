"""`edge-agent fleet watch` against a real mosquitto."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from paho.mqtt import publish

from tests.e2e.brokers import Process, free_port, mosquitto, wait_for
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Process]:
    """Run mosquitto with its own settings."""
    with mosquitto(tmp_path) as running:
        yield running


def watch(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Look once."""
    command = [
        sys.executable,
        "-m",
        "agent",
        "fleet",
        "watch",
        "--broker",
        f"mqtt://127.0.0.1:{port}",
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)


def tell(port: int, devices: dict[str, str], *, bad: tuple[str, ...] = ()) -> None:
    """Leave what `devices` (name: verdict) say retained on the broker, numbers too: nobody waits for them here."""
    messages = []
    for name, verdict in devices.items():
        health = {"verdict": verdict, "reasons": [], "model": {"name": "coco", "version": 3}}
        numbers = {"values": {"edge_agent_inference_rate_total_hertz": 5.0}}
        status = {"state": "online", "version": "1.0"}
        for kind, content in (("status", status), ("health", health), ("stats", numbers)):
            messages.append((f"edge/{name}/{kind}", json.dumps(content), 1, True))
    messages += [(f"edge/{name}/{kind}", b"\xff{", 1, True) for name in bad for kind in ("status", "health")]
    publish.multiple(messages, hostname="127.0.0.1", port=port)


def test_once(broker: Process) -> None:
    """All are ok: code 0; one is not, or can't be read: code 1, and the others are shown as they are."""
    tell(broker.port, {"a": "ok", "b": "ok"})
    done = watch(broker.port, "--once")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 devices:  2 ok\nversions: 1.0 on 2\nmodels: coco 3 on 2\n")
    assert "\x1b" not in done.stdout
    tell(broker.port, {"c": "degraded"}, bad=("x",))
    done = watch(broker.port, "--json", "--wait", "0")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["summary"]["health"] == {"degraded": 1, "unknown": 1, "ok": 2}
    assert [(d["name"], d["unreadable"]) for d in said["devices"]] == [("c", 0), ("x", 2), ("a", 0), ("b", 0)]
    assert watch(broker.port, "--once", "--wait", "0", "--filter", "coco").stdout.startswith("3 devices:")


def test_a_thousand_retained_devices(broker: Process) -> None:
    """With mosquitto's default limits nothing of what is retained is dropped on the way."""
    tell(broker.port, {f"dev{n:04}": "ok" for n in range(1000)})
    done = watch(broker.port, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["health"] == {"ok": 1000}


def test_nobody_there(broker: Process) -> None:
    """An empty fleet is not a healthy one; a broker that is away is code 69."""
    done = watch(broker.port, "--once", "--root", "other", "--wait", "0")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "other/+/status" in done.stderr
    done = watch(free_port(), "--once")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (69, "", 1)


def test_a_login_that_is_refused(tmp_path: Path) -> None:
    """Code 77, one line."""
    with mosquitto(tmp_path, settings="allow_anonymous false") as strict:
        done = watch(strict.port, "--once")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (77, "", 1), done.stderr


def test_in_a_terminal(broker: Process) -> None:
    """It shows what comes, goes through a restart of the broker, turns pages, and ends with q."""
    tell(broker.port, {f"dev{n:02}": "ok" for n in range(30)})
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "agent", "fleet", "watch", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
    size = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"}
    process = subprocess.Popen(command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, env=size)
    os.close(terminal)
    shown = bytearray()

    def read() -> None:
        try:
            while data := os.read(screen, 65536):
                shown.extend(data)
        except OSError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_for(lambda: b"dev13" in shown, HANGS_S, "the first page")
        os.write(screen, b"n")
        wait_for(lambda: b"dev14" in shown, HANGS_S, "the second page")
        broker.terminate()
        wait_for(lambda: b"no connection" in shown, HANGS_S, "the word that the broker is away")
        broker.start()
        tell(broker.port, {"late": "degraded"})
        wait_for(lambda: b"1 degraded" in shown.replace(b"\x1b[33m", b""), HANGS_S, "the new device")
        os.write(screen, b"q")
        assert process.wait(HANGS_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(screen)
