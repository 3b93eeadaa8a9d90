"""How one engine is timed, and which engine it is."""

from __future__ import annotations

import sys
from contextlib import closing

import numpy as np
import pytest

from agent.backends.tflite import TFLiteEngine
from agent.bundle import load_bundle
from agent.errors import ServiceAway
from agent.starter import starter_bundle
from agent.trial import noise_input
from agent.tune.child import repeat


def test_slow_work_is_timed_a_few_times_whatever_it_takes() -> None:
    """Three, after two to warm up, which are not counted."""
    done: list[int] = []
    assert len(repeat(lambda: done.append(1), seconds=0.0)) == 3
    assert len(done) == 5


def test_quick_work_is_timed_for_as_long_as_asked() -> None:
    """The times are those of one after the other: together the time that was asked for."""
    done: list[int] = []
    took_ms = repeat(lambda: done.append(1), seconds=0.02)
    assert sum(took_ms) >= 20.0
    assert len(done) > len(took_ms)


def starter_engine(**how: object) -> TFLiteEngine:
    bundle = load_bundle(starter_bundle())
    return TFLiteEngine(bundle.file(bundle.artifact()), precision="int8", threads=1, **how)


def test_without_the_delegate_the_same_network_runs_on_tflite_s_own_kernels(caplog) -> None:
    """No node is delegated, the outputs are about the same, and nobody is warned: it is what was asked for."""
    bundle = load_bundle(starter_bundle())
    with closing(starter_engine()) as with_it, closing(starter_engine(delegate=False)) as without:
        assert with_it.info.backend == "litert-xnnpack"
        assert (without.info.backend, without.info.delegated_nodes) == ("litert", 0)
        tensor = noise_input(bundle, with_it)
        for one, other in zip(with_it.infer(tensor), without.infer(tensor), strict=True):
            assert one.shape == other.shape
            assert one.dtype == other.dtype
    assert caplog.text == ""


def test_noise_is_a_picture_of_the_model_s_size() -> None:
    """The same each time."""
    bundle = load_bundle(starter_bundle())
    with closing(starter_engine()) as engine:
        tensor = noise_input(bundle, engine)
        assert tensor.shape == engine.input.shape
        assert tensor.std() > 10
        np.testing.assert_array_equal(tensor, noise_input(bundle, engine))


def test_the_runtime_that_is_asked_for_and_no_other_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there is a fault, even where the other is."""
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    with pytest.raises(ServiceAway, match="tflite-runtime can't be loaded"):
        starter_engine(runtime="tflite-runtime")
    with closing(starter_engine(runtime="litert")) as engine:
        assert engine.info.backend == "litert-xnnpack"


def test_without_a_choice_the_first_runtime_that_loads_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT; none at all is a fault that says what to install."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    with pytest.raises(ServiceAway, match=r"no TFLite runtime.*pip install ai-edge-litert"):
        starter_engine()
