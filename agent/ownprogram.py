"""Child processes that are one of our own modules: how they are started, and that they end with who started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PLACE = str(Path(__file__).parents[1])
# `python -m` would look for modules in the current directory first; -P, which forbids that, came with Python 3.11.
_START = f"""
import runpy, sys
sys.path[:] = [place for place in sys.path if place] + [{_PLACE!r}]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def command_of(module: str, *arguments: str) -> list[str]:
    """Return what runs `module` as `python -m` does, whatever lies in the current directory."""
    return [sys.executable, "-c", _START, module, *arguments]


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its `parent` ends, whatever ends that; prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before the line above
        os._exit(1)
