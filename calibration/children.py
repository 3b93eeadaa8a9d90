"""Other programs, run to their end: they never outlive this process, and what they say is kept for the error."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """Run `command` to its end. It dies with this process; an interrupt ends both."""
    words = [str(word) for word in command]
    log.info("running %s", " ".join(words))
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before the line above
            os._exit(1)

    with subprocess.Popen(  # noqa: S603 - our own tools
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,
    ) as child:
        try:
            out, errors = child.communicate()
        except BaseException:
            child.kill()
            raise
    for line in errors.splitlines():
        log.info("%s", line)
    return Done(child.returncode, out, errors)
