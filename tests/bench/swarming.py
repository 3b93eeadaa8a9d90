"""The clients of a swarm in their processes, the broker that they use, and its log of who connected when."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from tests.e2e.brokers import Process, mosquitto, wait_for
from tests.faults.lab import broker_settings, child, lasting_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALL_S = 600.0
"""So long may it take until all clients have done something."""


class Swarm:
    """The clients in their processes."""

    def __init__(self, workers: list[subprocess.Popen[str]], folder: Path) -> None:
        self._workers, self._folder = workers, folder

    def tell(self, command: str) -> None:
        """Give all processes one command."""
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{command}\n")
            worker.stdin.flush()

    def report(self) -> dict[str, float]:
        """Return the sums of what all say."""
        self.tell("report")
        said = []
        for worker in self._workers:
            assert worker.stdout is not None
            said.append(json.loads(worker.stdout.readline()))
        return {name: sum(each[name] for each in said) for name in said[0]}

    def until(self, done: Callable[[dict[str, float]], bool], what: str, timeout_s: float = ALL_S) -> None:
        """Wait until a report is as wanted; seldom asked for, because each costs the clients time."""
        end_s = time.monotonic() + timeout_s
        while not done(said := self.report()):
            if time.monotonic() > end_s:
                raise TimeoutError(f"waited {timeout_s:g} s for {what}: {said}")
            time.sleep(0.5)

    def ids(self) -> set[str]:
        """Return the ids of all that was put, as of the last report."""
        return {line for path in self._folder.glob("ids-*") for line in path.read_text().split()}


class Log:
    """The broker's log, with the time at which each client was connected."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.connects: list[tuple[float, str]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        wait_for(self._path.exists, ALL_S, "the broker's log")
        with self._path.open(encoding="utf-8", errors="replace") as file:
            part = ""
            while not self._ended.is_set():
                part += (came := file.read())
                *lines, part = part.split("\n")
                now_s = time.monotonic()
                for line in lines:
                    if "New client connected" in line and " as edge/dev" in line:
                        self.connects.append((now_s, line.partition(" as ")[2].split()[0]))
                if not came:
                    self._ended.wait(0.01)

    def since(self, began_s: float) -> dict[str, float]:
        """Return when each client was first connected since then, in seconds since then."""
        first: dict[str, float] = {}
        for at_s, name in list(self.connects):
            if at_s >= began_s:
                first.setdefault(name, at_s - began_s)
        return first


@contextlib.contextmanager
def swarming(
    folder: Path, port: int, *, clients: int, processes: int, hz: float, jitter: bool = True
) -> Iterator[Swarm]:
    """Run `clients` clients of the broker at `port`."""
    with contextlib.ExitStack() as stack:
        workers = []
        for number in range(processes):
            first = clients * number // processes
            count = clients * (number + 1) // processes - first
            options: tuple[object, ...] = ("--port", port, "--first", first, "--count", count, "--hz", hz)
            more = () if jitter else ("--no-jitter",)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            log = stack.enter_context((folder / f"clients-{first}.log").open("w"))
            process = child(
                "tests.bench.swarmclients", *options, "--folder", folder, *more, stderr=log, **pipes
            )
            workers.append(stack.enter_context(process))
            for pipe in (workers[-1].stdin, workers[-1].stdout):
                stack.enter_context(pipe)
        yield Swarm(workers, folder)


@contextlib.contextmanager
def logged_broker(folder: Path) -> Iterator[tuple[Process, Log]]:
    """Run a mosquitto that keeps sessions, with its log."""
    port = lasting_port()
    settings = f"{broker_settings(folder)}\nlog_dest file {folder}/broker.log\nlog_type notice"
    with (
        mosquitto(folder, port=port, settings=settings) as broker,
        contextlib.closing(Log(folder / "broker.log")) as log,
    ):
        yield broker, log


def received(path: Path) -> list[str]:
    """Return the ids that the witness got, in order."""
    return [line.split()[1] for line in path.read_text().splitlines() if line.startswith("E ")]
