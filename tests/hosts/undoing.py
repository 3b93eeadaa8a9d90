"""What is to be undone whatever happens: each step is done though others fail, and Ctrl-C does not cut it short."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _First:
    """Makes KeyboardInterrupt of the first signal, and nothing of those that come after it."""

    came = False

    def __call__(self, *_: object) -> None:
        if not self.came:
            self.came = True
            raise KeyboardInterrupt


@contextlib.contextmanager
def undoing() -> Iterator[contextlib.ExitStack]:
    """Yield a stack whose callbacks are called at the end of the block, the last first.

    The first Ctrl-C or SIGTERM is a KeyboardInterrupt in the block, or behind its end; more of them are ignored until
    all is undone: pytest leaves fixtures as they are when it is interrupted twice. For the main thread.
    """
    with contextlib.ExitStack() as whole:
        if not isinstance(signal.getsignal(signal.SIGINT), _First):
            whole.enter_context(_handled_by(_First()))
        stack = contextlib.ExitStack()
        try:
            yield stack
        finally:
            with held_back():
                stack.close()


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait for the end of the block."""
    came: list[int] = []
    try:
        with _handled_by(lambda number, _: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def call(*command: str) -> None:
    """Run a command that the Ctrl-C of a terminal does not reach. Raises CalledProcessError, TimeoutExpired."""
    subprocess.run(command, check=True, capture_output=True, timeout=60, start_new_session=True)


def unmount(place: Path) -> None:
    """Take away what is mounted on `place`, if anything is."""
    if place.is_mount():
        call("umount", "--lazy", str(place))


def remove_network(name: str) -> None:
    """Remove a network namespace, if it is there, and kill what still runs in it: Ansible leaves connections behind."""
    if not (Path("/run/netns") / name).exists():
        return
    pids = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=False, timeout=60
    )
    for process in map(int, pids.stdout.split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    call("ip", "netns", "del", name)
