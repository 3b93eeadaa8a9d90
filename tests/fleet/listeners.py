"""Who listens to a fleet all the time: an independent witness, and `edge-agent events --follow`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.brokers import wait_for
from tests.hosts.base import ROOT
from tests.hosts.lab import CONTROLLER
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.lab import Lab
    from tests.hosts.tlsbroker import TlsBroker


@contextlib.contextmanager
def witness(lab: Lab, broker: TlsBroker) -> Iterator[Path]:
    """Run tests.faults.witness; yield the file it writes to."""
    record = lab.folder / "witness.txt"
    files = {"ca_certs": "ca.pem", "certfile": "monitor.pem", "keyfile": "monitor.key"}
    options = [f"--{name}={broker.folder / file}" for name, file in files.items()]
    process = lab.start(
        *(sys.executable, "-m", "tests.faults.witness", f"--host={CONTROLLER}", f"--port={broker.port}"),
        *(*options, f"--out={record}"),
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: record.exists() and record.stat().st_size, HANGS_S, "the witness to subscribe")
        yield record
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Reader:
    """A running `edge-agent events --follow`, and the file that gets what it prints."""

    process: subprocess.Popen[str]
    out: Path

    @property
    def count(self) -> int:
        """How many events it has printed."""
        return len(self.out.read_bytes().splitlines())

    def finish(self) -> dict[str, Any]:
        """End it; return its summary, with its exit code as `code`."""
        self.process.terminate()
        code = self.process.wait(HANGS_S)
        summary: dict[str, Any] = json.loads(self.out.read_text().splitlines()[-1])["summary"]
        return {**summary, "code": code}


@contextlib.contextmanager
def reader(lab: Lab, broker: TlsBroker) -> Iterator[Reader]:
    """Run `edge-agent events --follow`, for which the broker keeps what comes while it is away."""
    out = lab.folder / "events.jsonl"
    files = {"ca-file": "ca.pem", "cert-file": "monitor.pem", "key-file": "monitor.key"}
    options = [f"--{name}={broker.folder / file}" for name, file in files.items()]
    url = f"mqtts://{CONTROLLER}:{broker.port}"
    command = (sys.executable, "-m", "agent", "events", "--follow", "--json", "--client-id=reader")
    with out.open("w") as file:
        process = lab.start(
            *command, f"--broker={url}", *options, cwd=ROOT, stdout=file, stderr=subprocess.DEVNULL
        )
    try:
        yield Reader(process, out)
    finally:
        process.kill()
        process.wait()
