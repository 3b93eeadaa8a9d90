"""How the C library hands out memory: from one arena, so that a process of many threads does not grow for hours.

glibc gives every thread an arena of its own and never moves memory between them: with threads that decode, infer and
send, resident memory goes on rising in steps for as long as it takes each to have met its worst moment (`python -m
tests.bench soak`). One arena reaches that in minutes and is several MB smaller. Other C libraries have no arenas.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # malloc.h of glibc


def use_one_arena() -> None:
    """Let all threads that this process starts from now on share one arena; does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
