"""Which thread goes first when there are fewer cores than work: the engine's.

On Linux every thread has a priority of its own, and to lower it takes no privilege. Without this a thread that wakes
up pushes the engine from its core.
"""

from __future__ import annotations

import contextlib
import os
import threading

NICE_CAPTURE = 10
"""Decoding comes last: a frame that is late is replaced by a newer one, an inference that waits is lost."""
NICE_STAGES = 1
"""What is done before and after the network: ahead of decoding, behind the network."""


def be_nice(nice: int) -> None:
    """Lower the priority of the calling thread to `nice`, where the system allows it."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
