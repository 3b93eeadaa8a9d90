"""TensorRT on a real GPU: golden outputs, latency, memory over 10,000 runs, the engine cache, a build that is killed.

Each test also runs over the doubles of TensorRT and CUDA, where numbers are ONNX Runtime's and times mean nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.bundle import load_bundle
from agent.starter import PEOPLE, shipped_bundle
from agent.trial import try_out
from tests import doubles
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.backends.tensorrt import TensorRTEngine
    from agent.bundle import Artifact, Bundle

_PROBE = "import tensorrt; from agent.backends.cuda import open_cuda; c = open_cuda(); print(c.sm); c.close()"
_AGENT = [sys.executable, "-m", "agent"]
_WORKSPACE_BYTES = 1 << 30
_GROWTH_BYTES = 16 << 20
"""Of the process, from one thousandth of the runs to the last: a leak of 2 kB a run would be 20 MB."""


@dataclass(frozen=True)
class Machine:
    """Where a test runs: how often it repeats, and what its child processes need in their environment."""

    name: str
    runs: int
    environment: dict[str, str]


@pytest.fixture(params=["double", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Give the double, then the GPU of this machine if it has one."""
    if request.param == "double":
        with doubles.present():
            yield Machine("double", 10, doubles.environment(settings="step_s=0.2"))
        return
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it crashes"])[-1]
        pytest.skip(f"no GPU with TensorRT here: {why}")
    yield Machine("gpu", 10_000, {})


def onnx_artifacts() -> list[Artifact]:
    return [each for each in load_bundle(shipped_bundle(PEOPLE)).manifest.artifact if each.format == "onnx"]


def opened(bundle: Bundle, artifact: Artifact) -> TensorRTEngine:
    from agent.backends.tensorrt import TensorRTEngine, build_engine, load_tensorrt

    built = build_engine(load_tensorrt(), bundle.file(artifact), workspace_bytes=_WORKSPACE_BYTES)
    return TensorRTEngine(built.plan, precision=artifact.precision, outputs=built.outputs)


@pytest.mark.parametrize("artifact", onnx_artifacts(), ids=lambda artifact: artifact.precision)
def test_outputs_are_golden(machine: Machine, artifact: Artifact) -> None:
    """FP16 and INT8 give what the float network gave where the bundle was built, as far as their precision goes."""
    bundle = load_bundle(shipped_bundle(PEOPLE)).choose(artifact)
    engine = opened(bundle, artifact)
    try_out(bundle, engine)
    engine.close()


@pytest.mark.parametrize("artifact", onnx_artifacts(), ids=lambda artifact: artifact.precision)
def test_many_runs_do_not_grow(machine: Machine, artifact: Artifact, record_property: Any) -> None:
    """10,000 runs, from lent memory and from the caller's; the latency is told (`--junit-xml`), not judged."""
    engine = opened(load_bundle(shipped_bundle(PEOPLE)), artifact)
    picture = np.random.default_rng(0).random(engine.input.shape, np.float32)
    first = engine.infer(picture)
    took_s = []
    for run in range(machine.runs):
        if run == machine.runs // 10:
            before_bytes = resident_bytes()
        tensor = picture
        if run % 2:
            tensor = engine.lend()
            tensor[...] = picture
        begin_s = time.perf_counter()
        outputs = engine.infer(tensor)
        took_s.append(time.perf_counter() - begin_s)
    for name, share in (("p50_ms", 50), ("p95_ms", 95)):
        record_property(
            f"{machine.name} {artifact.precision} {name}", round(np.percentile(took_s, share) * 1e3, 3)
        )
    for out, want in zip(outputs, first, strict=True):
        np.testing.assert_array_equal(out, want)
    assert resident_bytes() - before_bytes < _GROWTH_BYTES
    del tensor
    engine.close()


def test_an_engine_is_built_once(machine: Machine, tmp_path: Path) -> None:
    """The second time it is there already; one that was damaged is built anew."""
    first = build(machine, tmp_path)
    plan = next((tmp_path / "engines").glob("*/plan"))
    written_ns = plan.stat().st_mtime_ns
    assert build(machine, tmp_path) == first
    assert plan.stat().st_mtime_ns == written_ns
    with plan.open("r+b") as file:
        file.truncate(100)
    build(machine, tmp_path)
    assert next((tmp_path / "engines").glob("*/plan")).stat().st_size > 100


def test_a_build_that_is_killed_leaves_nothing_in_the_way(machine: Machine, tmp_path: Path) -> None:
    """Killed in the middle, by SIGKILL: no engine is there, and the next build makes it."""
    child = start_build(machine, tmp_path)
    wait_for_draft(child, tmp_path / "engines")
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=HANGS_S)
    assert not [*(tmp_path / "engines").glob("*/engine.json")]
    assert build(machine, tmp_path)["precision"] in {"int8", "fp16"}
    assert not [*(tmp_path / "engines").glob("*.part")]


def start_build(machine: Machine, state: Path) -> subprocess.Popen[str]:
    """Start `edge-agent engine build` for the starter; skip where this machine's board is none that it builds for."""
    return subprocess.Popen(
        [*_AGENT, "engine", "build", "--json", "--state", str(state)],
        env={**os.environ, **machine.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def build(machine: Machine, state: Path) -> dict[str, Any]:
    """Build, wait for it, and return the engine's record."""
    child = start_build(machine, state)
    out, errors = child.communicate(timeout=HANGS_S if machine.name == "double" else 1800)
    assert child.returncode == 0, errors
    record: dict[str, Any] = json.loads(out)
    return record


def wait_for_draft(child: subprocess.Popen[str], engines: Path) -> None:
    """Wait until the child builds."""
    end_s = time.monotonic() + HANGS_S
    while not [*engines.glob("*.part")]:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < end_s
        time.sleep(0.01)


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
