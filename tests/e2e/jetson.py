"""A simulated Jetson: the agent's own code on the files of a board, with the doubles of TensorRT and CUDA.

`python -m tests.e2e.jetson ROOT STATE probe BUNDLE | build BUNDLE | run BUNDLE CLIP SINK [INFERENCES]`, with the
variables of `tests.doubles.environment()`. The facts of the device are read below ROOT; all else is what the programs
do.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from agent.backends.tensorrt.execution import Execution
from agent.bundle import load_bundle
from agent.choosing import Chooser
from agent.config import CameraConfig, Config, Sampling
from agent.daemon import run
from agent.enginebuild import build_for
from agent.errors import ServiceAway
from agent.runoptions import RunOptions

EVERY_N = 10


def main(root: Path, state: Path, what: str, bundle: Path, *rest: str) -> None:
    """Do what the command of that name does; after so many INFERENCES the GPU fails."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    if what == "probe":
        chooser = Chooser.here(state, root=root)
        loaded = load_bundle(bundle)
        now, wanted = chooser.now(loaded), chooser.wanted(loaded)
        target = chooser.engines.target
        assert target is not None
        print(
            json.dumps(
                [[target.tensorrt, target.sm, target.l4t], now and now.artifact, wanted and wanted.artifact]
            )
        )
    elif what == "build":
        print(build_for(load_bundle(bundle), state, root=root).artifact)
    else:
        clip, sink, *failing = rest
        if failing:
            _have_the_gpu_fail(after=int(failing[0]))
        camera = CameraConfig(name="yard", source=clip)
        sampling = Sampling(mode="interval", every_n=EVERY_N)
        config = Config(
            camera=(camera,),
            device="jetson",
            model=str(bundle),
            sink=sink,
            state_dir=str(state),
            sampling=sampling,
        )
        run(RunOptions(config=config, pace="fastest", root=root))


def _have_the_gpu_fail(after: int) -> None:
    """Have all but the first `after` inferences fail."""
    run_it, numbers = Execution.run, iter(range(after))

    def failing(self: Execution, address: int) -> Any:
        if next(numbers, None) is None:
            raise ServiceAway("CUDA fails", seen="an illegal memory access was encountered")
        return run_it(self, address)

    Execution.run = failing  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]), sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
