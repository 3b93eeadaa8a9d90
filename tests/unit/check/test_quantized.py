"""INT8 that is slower than float is told by `check`, whoever has tuned or not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from agent.bundle import Bundle, load_bundle
from agent.check import model, quantized
from agent.starter import starter_bundle


@contextmanager
def opened(bundle: Bundle | None = None) -> Iterator[model.OpenModel]:
    """Give the starter's engine, as that of `bundle`."""
    found = model.open_and_time(starter_bundle())
    try:
        yield model.OpenModel(bundle or found.bundle, found.engine, found.infer_ms, found.cpu_ms)
    finally:
        found.engine.close()


@pytest.fixture
def both(tmp_path: Path) -> Bundle:
    """Return the starter with its INT8 file once more, as the float one."""
    found = load_bundle(starter_bundle())
    int8 = found.artifact()
    shutil.copyfile(found.file(int8), tmp_path / "fp32.tflite")
    again = msgspec.structs.replace(int8, file="fp32.tflite", precision="fp32")
    manifest = msgspec.structs.replace(found.manifest, artifact=(int8, again))
    return Bundle(tmp_path, manifest, found.labels, found.anchors)


def test_without_a_float_file_there_is_nothing_to_compare() -> None:
    """As in the starter."""
    with opened() as found:
        assert quantized.check(found) == []


@pytest.mark.parametrize(
    ("int8_ms", "float_ms", "rows"),
    [
        (12.0, 8.0, ["INT8 is 1.5x slower than fp32 on this device (12.0 ms, 8.0 ms)"]),
        (8.5, 8.0, []),
        (4.0, 8.0, []),
    ],
)
def test_slower_than_float_is_a_warning(
    int8_ms: float, float_ms: float, rows: list[str], both: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real engines, with times given; what a busy device makes of equals is none."""
    monkeypatch.setattr(quantized, "by_turns", lambda one, other: (one() and other() and int8_ms, float_ms))
    with opened(both) as found:
        told = quantized.check(found)
    assert [row.seen for row in told] == rows
    assert all((row.state, "edge-agent tune" in row.fix) == ("warning", True) for row in told)


def test_a_model_that_does_not_run_in_int8_is_not_compared(both: Bundle) -> None:
    """Float is what it would be compared with."""
    with opened(both.choose(both.manifest.artifact[1])) as found:
        assert quantized.check(found) == []


def test_two_take_turns_until_there_are_enough() -> None:
    """After one of each to warm up."""
    done: list[str] = []
    quantized.by_turns(lambda: done.append("one"), lambda: done.append("other"))
    assert done[:4] == ["one", "other", "one", "other"]
    assert done.count("one") == done.count("other") <= 21
