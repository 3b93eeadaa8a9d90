"""Tells Home Assistant of this device, again when it starts, and takes that back when it is to know nothing more."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from agent import __version__
from agent.errors import AgentError
from agent.hardware import identify, read_facts
from agent.homeassistant import Device, components, discovery, discovery_topic
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from agent.config import Config
    from agent.outlet import Outlet
    from agent.publisher.publisher import Publisher
    from agent.transport import Received

log = logging.getLogger(__name__)

FILE = "homeassistant.json"
"""In the state directory: what Home Assistant was told."""
SPREAD_S = 5.0
"""When it starts all devices tell it of themselves, over so long."""
_ROUND_S = 2.0
_END_S = 2.0
_MOST_LEAVING = 8
_MOST_GONE = 4000  # ten cameras of 80 labels have 1,630


class Told(msgspec.Struct, frozen=True):
    """What Home Assistant knows: by which topic, which components of which platform, and the labels of cameras.

    `leaving` are topics of before, under another name or prefix, that the broker may still have a message of.
    """

    topic: str = ""
    leaving: tuple[str, ...] = ()
    components: dict[str, str] = {}
    gone: dict[str, str] = {}
    labels: dict[str, tuple[str, ...]] = {}


class Announcer:
    """Keeps the discovery message as it should be while the `with` block runs; `prefix` None: there is to be none.

    `cameras` tells the labels that each camera is to report, none where it reports all: then those are told that it
    has reported. What was told is kept in `state_dir`, so that what leaves is taken back also after a restart.
    """

    def __init__(
        self,
        publisher: Publisher,
        device: Device,
        cameras: Callable[[], Mapping[str, tuple[str, ...]]],
        *,
        prefix: str | None,
        state_dir: Path,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher, self._device, self._cameras, self._prefix = publisher, device, cameras, prefix
        self._topic = "" if prefix is None else discovery_topic(device.name, prefix)
        self._path, self._told = state_dir / FILE, _read(state_dir / FILE)
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._clock = clock
        self._due_s, self._clearing = float("inf"), set[str]()
        self._shown: dict[str, tuple[str, ...]] | None = None
        self._fault = ""
        self._changed, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="home assistant", daemon=True)

    def __enter__(self) -> Self:
        if self._prefix is not None:
            self._publisher.listen(f"{self._prefix}/status", self._take)
        if self._topic or self._told.topic or self._told.leaving:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._changed.set()
        if self._thread.ident:
            self._thread.join(_END_S)

    def _take(self, received: Received) -> None:
        """Note that Home Assistant has started; on the publisher's thread."""
        if received.payload == b"online":
            self._due_s = self._clock() + self._rng.uniform(0.0, SPREAD_S)
            self._changed.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look(self._clock())
            except AgentError as fault:
                self._tell_fault(str(fault))
            except Exception as fault:
                self._tell_fault(f"{type(fault).__name__}: {fault}")
                log.debug("home assistant: fault", exc_info=fault)
            self._changed.wait(max(0.0, min(_ROUND_S, self._due_s - self._clock())))
            self._changed.clear()

    def look(self, now_s: float) -> None:
        """Have the message told when it changed or is due again, or taken back. Raises AgentError."""
        if self._told.topic not in {"", self._topic}:
            leaving = (*self._told.leaving, self._told.topic)[-_MOST_LEAVING:]
            self._keep(Told(leaving=leaving, labels=self._told.labels))
        for topic in self._told.leaving:
            self._take_back(topic)
        if self._topic:
            self._announce(again=now_s >= self._due_s)

    def _take_back(self, topic: str) -> None:
        """Have the message deleted; it is forgotten once the broker has that, or where it is told of again."""
        if topic != self._topic and topic not in self._clearing:
            self._clearing.add(topic)
            self._publisher.retain(topic, b"")
        elif topic == self._topic or self._publisher.told(topic):
            self._keep(replace(self._told, leaving=tuple(t for t in self._told.leaving if t != topic)))
            self._clearing.discard(topic)

    def _announce(self, *, again: bool) -> None:
        cameras = self._labelled()
        if again or cameras != self._shown:
            self._tell(cameras)
            self._shown, self._due_s = cameras, float("inf")

    def _tell(self, cameras: dict[str, tuple[str, ...]]) -> None:
        now = {name: each["p"] for name, each in components(self._device, cameras).items()}
        before = {**self._told.gone, **self._told.components}
        gone = {name: platform for name, platform in before.items() if name not in now}
        kept = dict(list(gone.items())[-_MOST_GONE:])
        # Before it is told: what Home Assistant knows must not be forgotten here.
        self._keep(Told(self._topic, self._told.leaving, now, kept, cameras))
        self._publisher.retain(self._topic, discovery(self._device, cameras, gone=kept))

    def _labelled(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of each camera: those it is to report, else those reported now or before."""
        found = {}
        reported = self._publisher.retained_topics()
        for camera, wanted in self._cameras().items():
            stem = self._device.topics.state(camera, "x")[:-1]
            seen = {topic[len(stem) :] for topic in reported if topic.startswith(stem)}
            found[camera] = wanted or tuple(sorted(seen.union(self._told.labels.get(camera, ()))))
        return found

    def _keep(self, told: Told) -> None:
        if told != self._told:
            write_whole(self._path, msgspec.json.encode(told), mode=0o640)
            self._told = told

    def _tell_fault(self, why: str) -> None:
        if why != self._fault:
            self._fault = why
            log.error("home assistant is not told of a change: %s", why)


def announce(outlet: Outlet, config: Callable[[], Config], *, state_dir: Path) -> Announcer:
    """Return what tells Home Assistant of the device of `outlet`, by the configuration at the moment."""
    board = identify(read_facts())
    device = Device(outlet.identity.device, outlet.topics, __version__, board.model or board.name)
    settings = config().homeassistant

    def cameras() -> dict[str, tuple[str, ...]]:
        now = config()
        return {camera.name: (camera.detect or now.detect).labels for camera in now.camera}

    prefix = settings.prefix if settings.enabled else None
    return Announcer(outlet.publisher, device, cameras, prefix=prefix, state_dir=state_dir)


def _read(path: Path) -> Told:
    """Return what was told before; what can't be read is told anew."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Told)
    except (OSError, ValueError, RecursionError):
        return Told()
