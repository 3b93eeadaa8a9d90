"""One arena for all threads."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.patience import HANGS_S

_COUNT = """
import ctypes, re, threading
from agent.allocator import use_one_arena
if {one}: use_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(5)
def take():
    libc.malloc(100_000)
    barrier.wait(60)
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
barrier.wait(60)
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fflush(ctypes.c_void_p(file))
"""


def arenas(*, one: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT.format(one=one)],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=True,
    )
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has no arenas")
def test_threads_share_one_arena() -> None:
    """Four threads that take memory have arenas of their own, and none after the call."""
    assert arenas(one=False) > 1
    assert arenas(one=True) == 1
