"""Clocks around the parts of a run: processor time of engine and rest, stage times, stolen time, memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.bench.figures import Run, Times

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.messages import EngineInfo, Frame, Geometry, ModelInput, TensorSpec
    from agent.pipeline import Pipeline

_PROC = Path("/proc")
_CPU_FIELDS = 8
_STEAL_FIELD = 7
"""proc(5), /proc/stat: user nice system idle iowait irq softirq steal; the guest fields are in user and nice."""


def steal_share(before: str, after: str) -> float | None:
    """Return the stolen share 0..1 of all processor time between two readings of /proc/stat."""
    first, last = _cpu_ticks(before), _cpu_ticks(after)
    if first is None or last is None or (total := sum(last) - sum(first)) <= 0:
        return None
    return (last[_STEAL_FIELD] - first[_STEAL_FIELD]) / total


def _cpu_ticks(stat: str) -> list[int] | None:
    words = stat.partition("\n")[0].split()
    if len(words) <= _CPU_FIELDS or words[0] != "cpu":
        return None
    return [int(word) for word in words[1 : _CPU_FIELDS + 1]]


def task_cpu_s(stat: str, ticks_hz: int) -> float:
    """Return user and system time of a thread from its /proc/PID/task/TID/stat (fields 14 and 15)."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks_hz


def peak_rss_mb(pid: int | str = "self") -> float | None:
    """Return the most memory a process has had resident, MB (10**6 bytes); None when it is gone."""
    for line in _read(_PROC / str(pid) / "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def tasks() -> set[int]:
    """Return the ids of this process's threads; empty where there is no /proc."""
    try:
        return {int(task.name) for task in (_PROC / "self" / "task").iterdir()}
    except OSError:
        return set()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


class MeteredEngine:
    """An engine that notes how long each inference took, and its processor time.

    `workers` are the ids of the threads that the runtime made for itself.
    """

    def __init__(self, engine: Engine, workers: Collection[int] = ()) -> None:
        self._engine, self._workers = engine, workers
        self._caller_cpu_s = 0.0
        self.took_s: list[float] = []

    @property
    def input(self) -> TensorSpec:
        """The one input."""
        return self._engine.input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the model's order."""
        return self._engine.outputs

    @property
    def info(self) -> EngineInfo:
        """Which backend took how much of the graph."""
        return self._engine.info

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run once."""
        begin_s, cpu_s = time.perf_counter(), time.thread_time()
        outputs = self._engine.infer(tensor)
        self._caller_cpu_s += time.thread_time() - cpu_s
        self.took_s.append(time.perf_counter() - begin_s)
        return outputs

    def close(self) -> None:
        """Release what the engine holds."""
        self._engine.close()

    def cpu_s(self) -> float:
        """Return the processor time of all inferences so far, that of the runtime's threads included."""
        ticks_hz = os.sysconf("SC_CLK_TCK")
        stats = [_read(_PROC / "self" / "task" / str(worker) / "stat") for worker in self._workers]
        return self._caller_cpu_s + sum(task_cpu_s(stat, ticks_hz) for stat in stats if stat)


class TimedStages:
    """The stages of `pipeline`, timed: the clock of the run goes from the first prepared to the last finished frame.

    `ages_s` are the ages of the frames when they were decided.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._begin_s = self._end_s = 0.0
        self.prepare_s: list[float] = []
        self.finish_s: list[float] = []
        self.ages_s: list[float] = []

    @property
    def wall_s(self) -> float:
        """From the first prepared to the last finished frame."""
        return self._end_s - self._begin_s

    @property
    def inferred(self) -> int:
        """How many frames were finished."""
        return len(self.finish_s)

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine."""
        begin_s = time.perf_counter()
        self._begin_s = self._begin_s or begin_s
        prepared = self._pipeline.prepare(frame)
        self.prepare_s.append(time.perf_counter() - begin_s)
        return prepared

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> None:
        """Use the outputs."""
        begin_s = time.perf_counter()
        self._pipeline.finish(frame, geometry, outputs)
        self.ages_s.append(time.monotonic() - frame.captured_s)
        self._end_s = time.perf_counter()
        self.finish_s.append(self._end_s - begin_s)


class Gauge:
    """Reads the clocks of the process and of the machine at the beginning of a run, and again at its end."""

    def __init__(self, engine: MeteredEngine) -> None:
        self._engine = engine
        self.restart()

    def restart(self) -> None:
        """Let the run begin now."""
        self._engine.took_s.clear()
        self._stat = _read(_PROC / "stat")
        self._engine_cpu_s = self._engine.cpu_s()
        self._cpu_s = time.process_time()

    def run(
        self,
        *,
        frames: int,
        inferred: int,
        wall_s: float,
        samples_s: dict[str, list[float]] | None = None,
        drops: dict[str, int] | None = None,
    ) -> Run:
        """Return the run that ends here; `samples_s` are the stage times beside the engine's."""
        cpu_s = time.process_time() - self._cpu_s
        engine_cpu_s = self._engine.cpu_s() - self._engine_cpu_s
        steal = steal_share(self._stat, _read(_PROC / "stat"))
        samples = {**(samples_s or {}), "infer": self._engine.took_s}
        times = {name: summary for name, taken in samples.items() if (summary := Times.of(taken))}
        other_cpu_s = max(0.0, cpu_s - engine_cpu_s)
        return Run(frames, inferred, wall_s, engine_cpu_s, other_cpu_s, steal, times, drops or {})
