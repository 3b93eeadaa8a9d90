"""A bad radio link: packets of the connection to the broker are lost, and what comes through comes late.

Runs in a network namespace of its own (`unshare -n`, root): nftables drops packets at random in both directions,
and the kernel's TCP has to live with that; a proxy holds back each byte for half the round-trip time, because not
every kernel has netem's delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.faults.disk import CannotInject
from tests.faults.lab import ROOT, lab, lasting_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.oracle import Verdict

_CHUNK_BYTES = 65_536
_END_S = 300.0


@dataclass(frozen=True)
class LinkResult:
    """The verdict, and what the link was like."""

    verdict: Verdict
    loss_percent: int
    rtt_s: float
    hz: float
    took_s: float
    drained: bool

    def as_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {**vars(self), "verdict": self.verdict.as_dict()}


def in_own_network(*arguments: object) -> int:
    """Run `python -m tests.faults ARGUMENTS` where nobody else's packets are; return its exit code.

    Raises CannotInject without root or nftables.
    """
    if not (shutil.which("unshare") and shutil.which("nft") and shutil.which("ip")):
        raise CannotInject("unshare, ip or nft is missing: apt install util-linux iproute2 nftables")
    own = ["unshare", "--net"]
    if subprocess.run([*own, "nft", "list", "tables"], capture_output=True, check=False).returncode:
        raise CannotInject("no network namespace or nftables for this user: run as root")
    inside = [*own, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    return subprocess.run(
        [*inside, sys.executable, "-m", "tests.faults", *map(str, arguments)], cwd=ROOT, check=False
    ).returncode


def run_link(folder: Path, *, events: int, hz: float, loss_percent: int, rtt_s: float) -> LinkResult:
    """Report `events` through the bad link; what is left in the end goes out over a good one."""
    begin_s = time.monotonic()
    with lab(folder) as made, late(made.broker.port, rtt_s / 2) as port:
        _drop(port, loss_percent)
        with made.storm(hz=hz, count=events, via=port, drain_s=_END_S) as storm:
            storm.process.wait(events / hz + _END_S + 60)
        drained = bool(storm.said[-1].get("drained")) and made.drain()
        return LinkResult(made.judge(), loss_percent, rtt_s, hz, time.monotonic() - begin_s, drained)


def _drop(port: int, percent: int) -> None:
    """Lose so many of all packets from and to `port`, those that open a connection too."""
    rules = ["add table ip lossy", "add chain ip lossy in { type filter hook input priority 0; }"]
    rules += [
        f"add rule ip lossy in tcp {end} {port} numgen random mod 100 < {percent} drop"
        for end in ("sport", "dport")
    ]
    subprocess.run(["nft", "-f", "-"], input="\n".join(rules), text=True, check=True)


@contextlib.contextmanager
def late(port: int, delay_s: float) -> Iterator[int]:
    """Run a proxy to `port` that holds back all that passes by `delay_s`; yield its own port."""
    own, loop, ready = lasting_port(), asyncio.new_event_loop(), threading.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def let_go() -> None:
            while True:
                due_s, data = await held.get()
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()

        async def hold() -> None:
            data = b"?"
            while data:
                data = await reader.read(_CHUNK_BYTES)
                held.put_nowait((loop.time() + delay_s, data))

        with contextlib.suppress(OSError):
            await asyncio.gather(hold(), let_go())
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", own))
        ready.set()
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, name="late proxy")
    thread.start()
    ready.wait(10)
    try:
        yield own
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
