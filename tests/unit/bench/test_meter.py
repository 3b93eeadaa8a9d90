"""Stolen time, processor time of threads and of the engine, memory."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest

from agent.bench.meter import Gauge, MeteredEngine, peak_rss_mb, steal_share, task_cpu_s, tasks
from agent.messages import EngineInfo, TensorSpec
from tests.patience import HANGS_S

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
STAT = "cpu  {user} 0 100 {idle} 0 0 0 {steal} {guest} 0\ncpu0 1 2 3\n"


def burn(seconds: float) -> None:
    """Use `seconds` of this thread's processor time."""
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        pass


SPEC = TensorSpec("tensor", (1,), np.dtype(np.float32))


class Busy:
    """An engine that uses 20 ms of its caller's processor time."""

    input = SPEC
    outputs = (SPEC,)
    info = EngineInfo("busy", "fp32", 1, 0, 0)

    def infer(self, tensor):
        burn(0.02)
        return (tensor,)

    def close(self):
        pass


def test_the_stolen_share_is_of_all_processor_time_between_two_readings() -> None:
    """Guest time, which user time has in it, is not counted twice."""
    before = STAT.format(user=1000, idle=5000, steal=100, guest=7)
    after = STAT.format(user=1060, idle=5030, steal=110, guest=57)
    assert steal_share(before, after) == pytest.approx(0.1)


@pytest.mark.parametrize("stat", ["", "cpu", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9"])
def test_a_system_that_does_not_tell_has_no_stolen_share(stat: str) -> None:
    """None, which is not 0."""
    assert steal_share(stat, stat) is None
    assert steal_share(STAT.format(user=1, idle=1, steal=1, guest=0), stat) is None


def test_no_time_between_two_readings_is_no_share() -> None:
    """Two readings within one tick."""
    stat = STAT.format(user=1, idle=1, steal=1, guest=0)
    assert steal_share(stat, stat) is None


@pytest.mark.parametrize("name", ["engine", "a b", "(sd) R 1 2", ")"])
def test_thread_times_are_found_behind_any_name(name: str) -> None:
    """The name may hold blanks and brackets; utime and stime are fields 14 and 15."""
    stat = f"7 ({name}) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 1 0 100"
    assert task_cpu_s(stat, 100) == pytest.approx(2.0)


def test_the_engines_processor_time_is_told_apart_from_the_rest() -> None:
    """40 ms in the engine, 60 ms beside it."""
    engine = MeteredEngine(Busy())
    engine.infer(np.zeros(1, np.float32))  # before the run: not counted
    gauge = Gauge(engine)
    assert engine.took_s == []
    for _ in range(2):
        engine.infer(np.zeros(1, np.float32))
    burn(0.06)
    found = gauge.run(frames=2, inferred=2, wall_s=1.0)
    assert 0.035 <= found.engine_cpu_s < 0.06
    assert 0.055 <= found.other_cpu_s < 0.2
    assert set(found.times) == {"infer"}
    assert found.times["infer"].mean_ms >= 20


@linux
def test_the_time_of_the_runtimes_own_threads_is_the_engines() -> None:
    """A thread that the engine made, which works outside of `infer`'s own."""
    ids: list[int] = []
    ready, go, done, end = (threading.Event() for _ in range(4))

    def work() -> None:
        ids.append(threading.get_native_id())
        ready.set()
        go.wait(HANGS_S)
        burn(0.1)
        done.set()
        end.wait(HANGS_S)

    before = tasks()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(HANGS_S)
        assert tasks() - before == set(ids)
        engine = MeteredEngine(Busy(), tasks() - before)
        gauge = Gauge(engine)
        go.set()
        assert done.wait(HANGS_S)
        assert gauge.run(frames=1, inferred=1, wall_s=1.0).engine_cpu_s == pytest.approx(0.1, abs=0.03)
    finally:
        go.set()
        end.set()
        thread.join()


@linux
def test_peak_memory_is_in_mb_and_none_for_a_process_that_is_gone() -> None:
    """This process has between 10 MB and a few GB."""
    assert 10 < (peak_rss_mb() or 0) < 10_000
    assert peak_rss_mb(os.getpid()) is not None
    assert peak_rss_mb(2**22 + 1) is None
