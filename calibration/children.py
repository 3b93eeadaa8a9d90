"""Other programs, run to their end, with all that they start; what they say is kept for the error."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended and what it wrote."""

    code: int
    out: str
    errors: str

    @property
    def last_error(self) -> str:
        """The last line it wrote to standard error, else how it ended."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}" + (
                " (out of memory?)" if self.code == -signal.SIGKILL else ""
            )
        return lines[-1][:300] if lines else f"exit code {self.code}"


def run_child(command: Sequence[object]) -> Done:
    """Run `command` to its end; what it has started and left behind is killed then.

    An exception that comes meanwhile (Ctrl-C) kills both. It also dies with this process; only SIGKILL of this
    process leaves what it has started itself.
    """
    words = [str(word) for word in command]
    log.info("running %s", " ".join(words))
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before the line above
            os._exit(1)

    with (
        tempfile.TemporaryFile(
            "w+", encoding="utf-8", errors="replace"
        ) as out,  # a pipe would wait for heirs
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(  # noqa: S603 - our own tools
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
            preexec_fn=die_with_parent,
        ) as child,
    ):
        try:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        finally:
            os.killpg(child.pid, signal.SIGKILL)  # not yet reaped: the group is still its own
        code = child.wait()
        done = Done(code, *(_all_of(file) for file in (out, errors)))
    for line in done.errors.splitlines():
        log.info("%s", line)
    return done


def _all_of(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
