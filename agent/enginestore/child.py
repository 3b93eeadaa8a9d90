"""The process that builds an engine and tries it: a crash in TensorRT, or a kill for its memory, ends it alone.

`python -m agent.enginestore.child REQUEST`; it tells how it goes in lines of JSON on standard output.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.backends.tensorrt import TensorRTEngine, build_engine, load_tensorrt
from agent.bundle import load_bundle
from agent.bundle.files import read_weights
from agent.enginestore.request import Request, Said
from agent.enginestore.store import PLAN, TIMING, disk_fault
from agent.errors import AgentError
from agent.toldfault import ToldFault
from agent.trial import try_out

if TYPE_CHECKING:
    from collections.abc import Callable

_NICE = 15
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Build and try what the request on the command line asks for."""
    request = msgspec.json.decode(sys.argv[1], type=Request)
    _be_the_first_to_go(request.parent)
    say = _speaker()
    try:
        _build(request, say)
    except AgentError as error:
        say(Said(fault=ToldFault.of(error)))
        return 1
    return 0


def _build(request: Request, say: Callable[[Said], None]) -> None:
    say(Said(progress="loading TensorRT"))
    trt = load_tensorrt()
    bundle = load_bundle(Path(request.bundle))
    artifact = bundle.named(request.artifact)
    draft, cache = Path(request.draft), Path(request.timing_cache)
    built = build_engine(
        trt,
        read_weights(bundle.file(artifact), request.sha256),
        workspace_bytes=request.workspace_bytes,
        batch=request.batch,
        timing_cache=cache.read_bytes() if cache.exists() else None,
        progress=_told_at_times(say),
    )
    try:
        (draft / PLAN).write_bytes(built.plan)
        if built.timing_cache is not None:
            (draft / TIMING).write_bytes(built.timing_cache)
    except OSError as error:
        raise disk_fault(cache.parent, error) from None
    say(Said(progress="self-test"))
    plan = (draft / PLAN).read_bytes()
    with closing(TensorRTEngine(plan, precision=artifact.precision, outputs=built.outputs)) as engine:
        try_out(bundle.choose(artifact), engine)
    say(Said(outputs=built.outputs))


def _told_at_times(say: Callable[[Said], None]) -> Callable[[float, str], None]:
    """Return what tells the share that is done, when a hundredth more is."""
    told = -1

    def progress(share: float, phase: str) -> None:
        nonlocal told
        if (percent := int(share * 100)) > told:
            told = percent
            say(Said(progress=f"{percent} % ({phase})"))

    return progress


def _be_the_first_to_go(parent: int) -> None:
    """End with the agent; leave it the processor; be what the kernel kills when memory is short after all."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before the line above
        os._exit(1)
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _speaker() -> Callable[[Said], None]:
    """Return what writes a line to standard output; what others print there goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(said: Said) -> None:
        out.write(msgspec.json.encode(said) + b"\n")

    return say


if __name__ == "__main__":
    sys.exit(main())
