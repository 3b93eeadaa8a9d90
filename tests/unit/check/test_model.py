"""A model as a row: what was checked, and the advice when XNNPACK did not take it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from agent.bundle import load_bundle
from agent.check import model
from agent.check.model import OpenModel
from agent.config import Detect
from agent.messages import EngineInfo
from agent.starter import starter_bundle


@dataclass
class Slow:
    """What an engine says of itself when XNNPACK took nothing."""

    info: EngineInfo


def test_the_starter_is_good_and_timed(camera) -> None:
    """Name, version, precision, threads and time; its own labels fit a camera that asks for them."""
    opened = model.open_and_time(starter_bundle())
    try:
        row, *doubts = model.judge(opened)
        assert row.state == "ok"
        assert ", shipped with this version: sha256 and self-test good, litert-xnnpack, 1 thread" in row.seen
        assert len(doubts) == len(opened.bundle.doubts(opened.bundle.artifact()))
        assert opened.infer_ms > 0
        assert opened.cpu_ms > 0
        fits = camera(detect=Detect(labels=("person",)))
        wrong = camera(name="gate", detect=Detect(labels=("unicorn",)))
        assert [row.what for row in model.settings(opened, [fits, wrong])] == ["camera gate settings"]
    finally:
        opened.engine.close()


@pytest.mark.parametrize(
    ("backend", "words"), [("litert", "/proc/cpuinfo"), ("tflite-runtime", "ai-edge-litert")]
)
def test_a_model_that_xnnpack_does_not_run_is_a_warning(backend: str, words: str) -> None:
    """What to do depends on the runtime."""
    engine = Slow(EngineInfo(backend, "int8", 1, 0, 114))
    rows = model.judge(OpenModel(load_bundle(starter_bundle()), engine, 400.0, 400.0))
    assert (rows[0].state, rows[-1].state) == ("ok", "warning")
    assert "none of 114" in rows[0].seen
    assert words in rows[-1].fix


def test_a_delegate_that_is_off_on_purpose_is_no_warning() -> None:
    """`tune` has measured it: the row says so."""
    engine = Slow(EngineInfo("litert", "int8", 1, 0, 114, delegate=False))
    rows = model.judge(OpenModel(load_bundle(starter_bundle()), engine, 4.0, 4.0))
    assert "as `tune` measured them faster" in rows[0].seen
    assert not [row for row in rows if "many times slower" in row.seen]


def test_an_engine_of_tensorrt_has_neither_threads_nor_xnnpack() -> None:
    """The row tells of what there is."""
    engine = Slow(EngineInfo("tensorrt", "int8", 0, 57, 57))
    (row, *_) = model.judge(OpenModel(load_bundle(starter_bundle()), engine, 4.0, 0.5))
    assert "self-test good, tensorrt, 4.0 ms, 57 layers" in row.seen
    assert "XNNPACK" not in row.seen
