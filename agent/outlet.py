"""The way out of the device, built whole: outbox, transport and publisher for a broker or a file."""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__, clock, leftover, wire
from agent.filesink import FileTransport
from agent.mqtt.transport import MqttTransport
from agent.outbox.ledger import Lane
from agent.outbox.outbox import COMMIT_S, SD_SAVER_S, Outbox
from agent.publisher.publisher import Publisher
from agent.topics import Topics
from agent.transport import Presence, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.mqtt.options import MqttOptions


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
        """Return how many messages of this run are not delivered; statistics are not waited for."""
        return sum(counts.queued for lane, counts in self.outbox.counts().items() if lane is not Lane.P2)


@contextmanager
def open_outlet(
    *,
    device: str,
    topic_root: str,
    broker: MqttOptions | None,
    sink: str,
    state_dir: Path,
    max_bytes: int = 64 << 20,
    sd_saver: bool = False,
    last_end: wire.LastEnd | None = None,
) -> Iterator[Outlet]:
    """Open the way to `broker`, or without one to the JSONL file `sink` ("-": standard output).

    What waits for a broker must not end up in a file: each file sink has an outbox of its own. Events that the
    run before left open are ended; births tell of its `last_end`. Raises CannotCreate, TryAgain (another agent
    has this outbox), BadConfig.
    """
    topics, identity = Topics.of(device, root=topic_root), wire.Identity(device, wire.boot_id())
    clock.look()
    with ExitStack() as stack:
        path = stack.enter_context(_outbox_file(broker, sink, state_dir))
        alive_s = leftover.last_written_s(path)
        outbox = stack.enter_context(
            Outbox(
                path,
                device=device,
                gap_topic=topics.gap,
                boot_id=identity.boot_id,
                commit_s=SD_SAVER_S if sd_saver else COMMIT_S,
                max_bytes=max_bytes,
            )
        )
        presence = Presence(
            topics.status,
            birth=lambda: wire.encode_birth(
                identity,
                version=__version__,
                epoch=outbox.epoch,
                before=outbox.before,
                last_end=last_end,
            ),
            will=wire.encode_offline(identity, version=__version__, epoch=outbox.epoch),
        )
        transport = _transport(broker, sink, presence)
        publisher = Publisher(outbox, transport, presence=presence, freshen=clock.freshen)
        stack.callback(publisher.stop)
        leftover.settle(
            outbox, publisher, topics=topics, identity=identity, utc=clock.time_base(), alive_s=alive_s
        )
        publisher.start()
        yield Outlet(outbox, publisher, topics, identity)


@contextmanager
def _outbox_file(broker: MqttOptions | None, sink: str, state_dir: Path) -> Iterator[Path]:
    """Yield where the outbox lies: for standard output nowhere lasting, for each file sink a file of its own."""
    if broker is None and sink == "-":
        with tempfile.TemporaryDirectory(prefix="edge-agent-") as folder:
            yield Path(folder) / "outbox.db"
        return
    name = "outbox.db" if broker is not None else f"sink-{_key(sink)}.db"
    yield state_dir / name


def _transport(broker: MqttOptions | None, sink: str, presence: Presence) -> Transport:
    """Return what carries the messages. Raises CannotCreate."""
    if broker is not None:
        return MqttTransport(broker, presence=presence)
    return FileTransport("-" if sink == "-" else Path(sink))


def _key(sink: str) -> str:
    return hashlib.sha256(str(Path(sink).resolve()).encode()).hexdigest()[:8]
