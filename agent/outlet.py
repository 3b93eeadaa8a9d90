"""The way out of the device, built whole: outbox, transport and publisher for a broker or a file."""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__, wire
from agent.errors import CannotCreate
from agent.filesink import FileTransport
from agent.mqtt import MqttTransport
from agent.outbox import Outbox
from agent.publisher import Publisher
from agent.topics import Topics
from agent.transport import Presence, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.broker import MqttOptions


@dataclass(frozen=True, slots=True)
class Outlet:
    """What the cameras need to report."""

    outbox: Outbox
    publisher: Publisher
    topics: Topics
    identity: wire.Identity

    def drain(self, timeout_s: float) -> bool:
        """Deliver what is left, of earlier runs too, for at most `timeout_s`; return whether all arrived."""
        deadline_s = time.monotonic() + timeout_s
        self.outbox.flush(timeout_s)
        return self.publisher.drain(max(0.0, deadline_s - time.monotonic()))

    def waiting(self) -> int:
        """Return how many messages of this run are not delivered."""
        return sum(counts.queued for counts in self.outbox.counts().values())


@contextmanager
def open_outlet(
    *,
    device: str,
    topic_root: str,
    broker: MqttOptions | None,
    sink: str,
    state_dir: Path,
    max_bytes: int = 64 << 20,
) -> Iterator[Outlet]:
    """Open the way to `broker`, or without one to the JSONL file `sink` ("-": standard output).

    What waits for a broker must not end up in a file: each file sink has an outbox of its own.
    Raises CannotCreate, TryAgain (another agent has this outbox), BadConfig.
    """
    topics, identity = Topics.of(device, root=topic_root), wire.Identity(device, wire.boot_id())
    with (
        _outbox_file(broker, sink, state_dir) as path,
        Outbox(path, device=device, gap_topic=topics.gap, max_bytes=max_bytes) as outbox,
    ):
        presence = Presence(
            topics.status,
            birth=wire.encode_birth(
                identity, version=__version__, epoch=outbox.epoch, previous=outbox.previous
            ),
            will=wire.encode_offline(identity, version=__version__, epoch=outbox.epoch),
        )
        publisher = Publisher(outbox, _transport(broker, sink, presence), presence=presence)
        publisher.start()
        try:
            yield Outlet(outbox, publisher, topics, identity)
        finally:
            publisher.stop()


@contextmanager
def _outbox_file(broker: MqttOptions | None, sink: str, state_dir: Path) -> Iterator[Path]:
    """Yield where the outbox lies: for standard output nowhere lasting, for each file sink a file of its own."""
    if broker is None and sink == "-":
        with tempfile.TemporaryDirectory(prefix="edge-agent-") as folder:
            yield Path(folder) / "outbox.db"
        return
    name = "outbox.db" if broker is not None else f"sink-{_key(sink)}.db"
    yield _made(state_dir) / name


def _transport(broker: MqttOptions | None, sink: str, presence: Presence) -> Transport:
    """Return what carries the messages. Raises CannotCreate."""
    if broker is not None:
        return MqttTransport(broker, presence=presence)
    return FileTransport("-" if sink == "-" else Path(sink))


def _key(sink: str) -> str:
    return hashlib.sha256(str(Path(sink).resolve()).encode()).hexdigest()[:8]


def _made(state_dir: Path) -> Path:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "give a directory you may write with --state"
        raise CannotCreate(f"state directory {state_dir}", seen=error.strerror, fix=fix) from error
    return state_dir
