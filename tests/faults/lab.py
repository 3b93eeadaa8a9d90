"""What every fault run is made of: a broker that keeps its sessions, a witness, storms on one state directory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paho.mqtt import publish

from tests.e2e.brokers import Process, mosquitto, wait_for
from tests.faults.oracle import Oracle
from tests.faults.outboxfile import read_accounts
from tests.faults.witness import FENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.faults.oracle import Verdict

ROOT = Path(__file__).parents[2]
_START_S = 120.0
_DRAINING_SEED = 1 << 40  # unlike every storm's; and of a negative one `random` takes the absolute value
_FENCE_S = 300.0


def broker_settings(folder: Path) -> str:
    """Return settings of a mosquitto that keeps all there is for a subscriber that is away, over restarts too.

    The window towards a subscriber is unbounded, so that what is acknowledged was passed on before.
    """
    return (
        f"allow_anonymous true\npersistence true\npersistence_location {folder}/\n"
        "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true"
    )


def lasting_port() -> int:
    """Return a free port that no outgoing connection is given while the broker is away."""
    ports = list(range(15_000, 32_000))  # below net.ipv4.ip_local_port_range
    random.shuffle(ports)
    for port in ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port of loopback is free")


@contextlib.contextmanager
def child(module: str, *arguments: object, before: Sequence[str] = (), **options: Any) -> Iterator[Any]:
    """Run `python -m MODULE ARGUMENTS` (`before`: a program that runs it); it is killed in the end."""
    command = [*before, sys.executable, "-m", module, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def storming(*arguments: object, log: Path, before: Sequence[str] = ()) -> Iterator[Storm]:
    """Run a storm (tests/faults/storm.py) until the end of the block; what it logs goes to `log`."""
    with (
        log.open("ab") as errors,
        child(
            "tests.faults.storm", *arguments, before=before, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        storm = Storm(process, log)
        try:
            yield storm
        finally:
            storm.kill()


class Storm:
    """A running storm: its process and the lines it has written so far."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self._log = process, log
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> list[dict[str, Any]]:
        """The whole lines so far."""
        return [json.loads(line) for line in list(self.lines) if line.endswith("}\n")]

    def wait_open(self) -> None:
        """Wait until it has opened its outbox. Raises RuntimeError with its last words when it has ended."""
        wait_for(lambda: self.said or self.ended, _START_S, "the storm to open its outbox")
        if not self.said:
            last = self._log.read_text(errors="replace")[-1000:]
            raise RuntimeError(f"the storm ended with {self.process.returncode}: {last}")

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self.process.poll() is not None

    @property
    def put(self) -> int:
        """How many events it has told of so far."""
        return max((sum(line.get("last", {}).values()) for line in self.said[-2:]), default=0)

    def committed(self) -> bool:
        """Return whether the last line tells that all is on disk."""
        return bool(self.said and self.said[-1].get("committed"))

    def rss_kib(self) -> int:
        """Return the most memory it has had resident; 0 when it is gone."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
        return 0

    def kill(self) -> None:
        """Kill -9, and take what it wrote until then; may be called twice."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)

    def finish(self, timeout_s: float) -> dict[str, Any]:
        """SIGTERM; return its last line."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout_s)
        self._reader.join(10)
        return self.said[-1]

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            self.lines.extend(pipe)


class Lab:
    """A broker, a witness, a state directory, and the oracle that hears of all of them."""

    def __init__(self, folder: Path, broker: Process, state: Path) -> None:
        self.broker, self.state, self.oracle = broker, state, Oracle()
        self.record = folder / "witness.txt"
        self.log = folder / "storm.log"
        self._fences = 0

    @contextlib.contextmanager
    def storm(
        self,
        *,
        hz: float,
        count: int = 0,
        seed: int = 1,
        via: int | None = None,
        before: Sequence[str] = (),
        **more: object,
    ) -> Iterator[Storm]:
        """Run a storm; what it says, and the file that it leaves, go to the oracle. `via`: the port it connects to."""
        options = [f"--{key.replace('_', '-')}={value}" for key, value in more.items()]
        fixed = [
            "--state",
            self.state,
            "--port",
            via or self.broker.port,
            "--hz",
            hz,
            "--count",
            count,
            "--seed",
            seed,
        ]
        with storming(*fixed, *options, log=self.log, before=before) as running:
            yield running
        for line in running.lines:
            self.oracle.process_says(line)
        self.read_file()

    def read_file(self) -> None:
        """Have the oracle read the outbox; no process may have it open."""
        if (file := self.state / "outbox.db").exists():
            self.oracle.file_says(read_accounts(file))
        else:
            self.oracle.no_file()

    def status_holds(self) -> bool:
        """Return whether `edge-agent outbox status` finds the accounts in order, by its exit code and its words."""
        command = [sys.executable, "-m", "agent", "outbox", "status", "--state", str(self.state), "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode == 0 and bool(json.loads(done.stdout)["holds"])

    def drain(self, timeout_s: float = 900.0) -> bool:
        """Let one more process deliver all that is left; return whether it could."""
        with self.storm(hz=1, seed=_DRAINING_SEED, drain_s=timeout_s) as storm:
            storm.wait_open()
            return bool(storm.finish(timeout_s + 20)["drained"])

    def catch_up(self) -> None:
        """Wait until the witness has all that the broker had by now."""
        self._fences += 1
        text = f"{FENCE}{self._fences}"
        publish.single(FENCE, text, qos=1, hostname="127.0.0.1", port=self.broker.port)
        wait_for(lambda: self._has(f"F {text}\n"), _FENCE_S, "the witness to catch up")

    def settle(self) -> None:
        """Wait until nothing more comes to the witness; whoever sends must be stopped.

        The broker takes one packet of each connection in turn, so a fence, which takes several, overtakes what
        is left in the sender's socket; between two fences at least one of those would come.
        """
        events = -1
        while events != (events := self._events()):
            self.catch_up()

    def _events(self) -> int:
        with self.record.open(encoding="utf-8") as lines:
            return sum(line[0] in "EG" for line in lines)

    def judge(self) -> Verdict:
        """Return the verdict on all that has come to the witness, or is on its way."""
        self.catch_up()
        with self.record.open(encoding="utf-8") as lines:
            return self.oracle.judge(lines)

    def _has(self, line: str) -> bool:
        with self.record.open("rb") as record:
            record.seek(max(0, record.seek(0, os.SEEK_END) - 4096))
            return line.encode() in record.read()


@contextlib.contextmanager
def lab(folder: Path, *, state: Path | None = None) -> Iterator[Lab]:
    """Run broker and witness; files lie in `folder`. Skips the test where mosquitto is not installed."""
    with mosquitto(folder, port=lasting_port(), settings=broker_settings(folder)) as broker:
        made = Lab(folder, broker, state or folder / "state")
        with child("tests.faults.witness", "--port", broker.port, "--out", made.record):
            wait_for(lambda: made.record.exists() and made.record.stat().st_size, _START_S, "the witness")
            yield made
