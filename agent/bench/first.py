"""`python -m agent.bench.first FILE run ...`: be `edge-agent run ...` and note when the first frame was inferred."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable


def tell_first(told: Path, finish: Callable[..., Any]) -> Callable[..., Any]:
    """Return `finish`, which now writes the monotonic time of its first call to the file `told`."""
    done = False

    def noting(*args: Any) -> Any:
        nonlocal done
        if not done:
            done = True
            part = told.with_suffix(".part")
            part.write_text(repr(time.monotonic()), encoding="ascii")
            part.rename(told)
        return finish(*args)

    return noting


if __name__ == "__main__":
    setattr(Pipeline, "finish", tell_first(Path(sys.argv.pop(1)), Pipeline.finish))  # noqa: B010 - no method of it
    runpy.run_module("agent", run_name="__main__")  # an import would turn the layers around
