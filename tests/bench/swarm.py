"""A fleet of real clients on one mosquitto: how they come back after it was away, and that nothing is lost.

    python -m tests.bench swarm [--clients 1000] [--outage-s 60] [--storms restart down kill] [--no-jitter]

Each client has the agent's own transport, publisher and outbox (on tmpfs), in a few processes; it puts an event every
`1/--hz` seconds, its numbers twice a minute. The broker is restarted, killed, and away for a while; when each
client connects again is read from its log. `fleet watch` looks at all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.swarming import ALL_S, Log, Swarm, logged_broker, received, swarming
from tests.e2e.brokers import Process, wait_for
from tests.faults.lab import child

STORMS = ("restart", "down", "kill")
_BIN_S = 0.1
_STANDS_S = 65.0
"""A connection that has stood a minute begins with the shortest wait again."""


@dataclass(frozen=True)
class Storm:
    """How clients came back: from the broker's listening to the last of them, and how many at once."""

    what: str
    clients: int
    all_back_s: float
    peak_hz: int
    peak_in_100_ms: int
    per_second: list[int]
    drained_s: float | None = None
    backlog: int = 0


@dataclass
class Result:
    """All figures. `watch`: seconds, processor seconds."""

    clients: int
    jitter: bool
    start_s: float = 0.0
    clients_cpu: float = 0.0
    broker_cpu: float = 0.0
    clients_rss_mib: float = 0.0
    descriptors: int = 0
    storms: list[Storm] = field(default_factory=list)
    watch_once: dict[str, float] = field(default_factory=dict)
    watch_live: dict[str, float] = field(default_factory=dict)
    put: int = 0
    lost: int = 0
    twice: int = 0


def storm_of(what: str, times: list[float]) -> Storm:
    """Return the figures of clients that connected at `times`, in seconds."""
    times = sorted(times)
    whole = [0] * (int(times[-1]) + 1)
    for at_s in times:
        whole[int(at_s)] += 1
    return Storm(what, len(times), round(times[-1], 2), _most(times, 1.0), _most(times, _BIN_S), whole)


def _most(times: list[float], within_s: float) -> int:
    """Return the largest number of times within any such span."""
    most = first = 0
    for last, at_s in enumerate(times):
        while at_s - times[first] >= within_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def cpu_s(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--hz", type=float, default=0.2)
    parser.add_argument("--outage-s", type=float, default=60.0)
    parser.add_argument("--storms", nargs="*", choices=STORMS, default=STORMS)
    parser.add_argument("--no-jitter", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        result = measure(Path(folder), given)
    show(result)
    if given.json:
        given.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    return int(result.lost > 0)


def measure(folder: Path, given: argparse.Namespace) -> Result:
    """Run all of it."""
    result = Result(given.clients, not given.no_jitter)
    began_s = time.monotonic()
    with (
        logged_broker(folder) as (broker, log),
        child("tests.faults.witness", "--port", broker.port, "--out", folder / "witness"),
        swarming(
            folder,
            broker.port,
            clients=given.clients,
            processes=given.processes,
            hz=given.hz,
            jitter=result.jitter,
        ) as swarm,
    ):
        wait_for(lambda: len(log.since(began_s)) == given.clients, ALL_S, "all clients")
        result.start_s = round(time.monotonic() - began_s, 1)
        print(f"{given.clients} clients after {result.start_s} s", flush=True)
        swarm.tell("go")
        _steady(result, swarm, broker)
        _watch(result, broker.port)
        print("watched", flush=True)
        for what in given.storms:
            away_s = given.outage_s if what == "down" else 0.0
            result.storms.append(_storm(what, away_s, given.clients, swarm, broker, log, folder))
            print(result.storms[-1], flush=True)
        _account(result, swarm, folder)
    return result


def _steady(result: Result, swarm: Swarm, broker: Process, seconds: float = 20.0) -> None:
    time.sleep(5.0)
    before, broker_s, began_s = swarm.report(), cpu_s(broker.process.pid), time.monotonic()
    time.sleep(seconds)
    after, took_s = swarm.report(), time.monotonic() - began_s
    result.clients_cpu = round((after["cpu_s"] - before["cpu_s"]) / took_s, 2)
    result.broker_cpu = round((cpu_s(broker.process.pid) - broker_s) / took_s, 3)
    result.clients_rss_mib, result.descriptors = round(after["rss_mib"]), int(after["descriptors"])


def _storm(
    what: str, away_s: float, clients: int, swarm: Swarm, broker: Process, log: Log, folder: Path
) -> Storm:
    """Take the broker away, and see all clients come back and their backlog drain."""
    time.sleep(_STANDS_S)
    if what == "kill":  # mosquitto loses what it has confirmed and not passed on: it is killed when it has
        swarm.tell("hold")
        _drain(swarm, folder)
        broker.process.send_signal(signal.SIGUSR1)  # save sessions
        time.sleep(2.0)
        broker.kill()
        swarm.tell("go")
    else:
        broker.terminate()
    time.sleep(away_s)
    backlog = swarm.report()
    back_s = time.monotonic()
    broker.start()
    wait_for(lambda: len(log.since(back_s)) == clients, ALL_S, "all clients to come back")
    swarm.tell("hold")
    _drain(swarm, folder)
    drained_s = round(time.monotonic() - back_s, 1)
    swarm.tell("go")
    storm = storm_of(what, list(log.since(back_s).values()))
    return Storm(**{**asdict(storm), "drained_s": drained_s, "backlog": int(backlog["queued"])})


def _drain(swarm: Swarm, folder: Path) -> None:
    """Wait until the witness has all that was put."""
    swarm.until(lambda said: not said["waiting"], "all to be delivered")
    wanted = swarm.ids()
    swarm.until(lambda _: wanted <= set(received(folder / "witness")), "the witness to have all")


def _account(result: Result, swarm: Swarm, folder: Path) -> None:
    swarm.tell("hold")
    with contextlib.suppress(TimeoutError):
        _drain(swarm, folder)
    wanted, arrived = swarm.ids(), received(folder / "witness")
    result.put, result.lost = len(wanted), len(wanted - set(arrived))
    result.twice = len(arrived) - len(set(arrived))


def _watch(result: Result, port: int) -> None:
    """Look at the fleet once, then for 20 s in a terminal."""
    command = [sys.executable, "-m", "agent", "fleet", "watch", "--broker", f"mqtt://127.0.0.1:{port}"]
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    once = subprocess.run([*command, "--json"], capture_output=True, check=False)
    result.watch_once = _cost(before, began_s) | {
        "devices": json.loads(once.stdout)["summary"]["devices"],
        "not_ok": once.returncode,
    }
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    screen, terminal = pty.openpty()
    size = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    live = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=size)
    os.close(terminal)
    shown = [0]

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(screen, 65536):
                shown[0] += len(data)

    threading.Thread(target=read, daemon=True).start()
    time.sleep(20.0)
    os.write(screen, b"q")
    code = live.wait(60)
    result.watch_live = _cost(before, began_s) | {"shown_bytes": shown[0], "code": code}


def _cost(before: Any, began_s: float) -> dict[str, float]:
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.monotonic() - began_s, 1), "cpu_s": round(cpu, 2)}


def show(result: Result) -> None:
    """Print the figures."""
    n = result.clients
    print(
        f"{n} clients {'with' if result.jitter else 'WITHOUT'} jitter, all connected {result.start_s} s after the "
        f"first process began; steady: {result.clients_cpu} processors for the clients, "
        f"{result.broker_cpu} for the broker; "
        f"{result.clients_rss_mib / n:.2f} MiB, {result.descriptors / n:.1f} descriptors a client"
    )
    print(f"fleet watch --once: {result.watch_once}\nfleet watch, 20 s: {result.watch_live}")
    for storm in result.storms:
        print(
            f"{storm.what}: all back {storm.all_back_s} s after the broker; most in a second {storm.peak_hz}, "
            f"in 100 ms {storm.peak_in_100_ms}; {storm.backlog} were queued, drained after {storm.drained_s} s"
        )
        print("  each second:", " ".join(map(str, storm.per_second)))
    print(f"{result.put} events put, {result.lost} lost, {result.twice} twice")
