"""A device that takes commands, for tests: the way out and back over a real broker, the doing by a double."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agent.commands import Commands
from agent.errors import BadData
from tests.e2e.brokers import wait_for
from tests.e2e.sender import TOPICS, Sender
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from typing_extensions import Self

NAMES = frozenset({"status", "camera.enable", "slow", "breaks", "model.install"})


class Operations:
    """Does what it is told to; "slow" waits for `go`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Mapping[str, object]]] = []
        self.go = threading.Event()

    def do(
        self, name: str, args: Mapping[str, object], progress: Callable[[Mapping[str, object]], None]
    ) -> object:
        if name == "status":
            return {"verdict": "ok", "model": {"name": "good", "version": 3}}
        self.done.append((name, args))
        if name == "slow":
            progress({"step": 1})
            assert self.go.wait(HANGS_S)
        elif name == "model.install":
            progress({"step": "download", "bytes": 5, "of_bytes": 10})
        elif name == "breaks":
            raise BadData("the model", seen="broken", fix="give another")
        return {"did": name, **args}


class Device:
    """Device dev1 with commands, while the `with` block runs; `listens`: it has subscribed."""

    def __init__(self, folder: Path, port: int, **options: Any) -> None:
        self.operations = Operations()
        self.sender = Sender(folder, port, **options)
        outlet: Any = SimpleNamespace(publisher=self.sender.publisher, topics=TOPICS)
        self.commands = Commands(self.operations, outlet, names=NAMES)

    def __enter__(self) -> Self:
        self.commands.__enter__()
        wait_for(lambda: self.listens, HANGS_S, "the subscription")
        return self

    def __exit__(self, *_: object) -> None:
        self.operations.go.set()
        self.commands.__exit__()
        self.sender.close()

    @property
    def listens(self) -> bool:
        """Whether the broker has granted all subscriptions of this connection."""
        receiving = self.sender.transport._receiving
        return receiving._subscribed >= receiving._takers.keys() and not receiving._asked
