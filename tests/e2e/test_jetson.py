"""A simulated Jetson from its files to an event, with the doubles of TensorRT and CUDA: no GPU is needed or shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agent.starter import PEOPLE, sample_clip, shipped_bundle
from tests import doubles
from tests.patience import HANGS_S
from tests.unit.hardware.boards import TREES

ROOT = Path(__file__).parents[2]
RUNS = 8
"""Of the network: the self-test takes 5, the 20 frames of the sample that are inferred 5 or more, in batches of 4."""


class Jetson:
    """An Orin Nano with JetPack 6.2, which has built no engine yet."""

    def __init__(self, folder: Path) -> None:
        self.state, self.sink = folder / "state", folder / "events.jsonl"
        self._root = TREES["orin-nano"].build(folder / "root")

    def do(self, *arguments: object, double: str | None = "") -> subprocess.CompletedProcess[str]:
        """Do what tests.e2e.jetson tells, with the `double` set so; None: without it."""
        command = [sys.executable, "-m", "tests.e2e.jetson", self._root, self.state, *arguments]
        return subprocess.run(
            [*map(str, command)],
            cwd=ROOT,
            env={**os.environ, **({} if double is None else doubles.environment(settings=double))},
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )

    def probe(self, bundle: Path) -> Any:
        """Return what engines are built for, what runs now and what is wanted."""
        done = self.do("probe", bundle)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run_until_the_gpu_fails(self, bundle: Path) -> str:
        """Run the sample clip until the GPU fails, after RUNS; return the log."""
        done = self.do("run", bundle, sample_clip(), self.sink, RUNS)
        assert done.returncode != 0, done.stderr
        return done.stderr

    def run_until_it_crashes(self, bundle: Path) -> None:
        """Run the sample clip with a TensorRT that ends the process after RUNS."""
        done = self.do("run", bundle, sample_clip(), self.sink, double=f"crash=work crash_after={RUNS}")
        assert done.returncode == -signal.SIGSEGV, done.stderr

    def run(self, bundle: Path, double: str | None = "") -> tuple[list[dict[str, Any]], str]:
        """Run the sample clip; return the events and the log."""
        self.sink.unlink(missing_ok=True)
        done = self.do("run", bundle, sample_clip(), self.sink, double=double)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in self.sink.read_text().splitlines()], done.stderr


def bundle_of(folder: Path, *kept: str) -> Path:
    """Write the network for people with only the artifacts whose precision and format are `kept`, as `fp16 onnx`."""
    folder.mkdir()
    shipped = shipped_bundle(PEOPLE)
    head, *artifacts = (shipped / "model.toml").read_text().split("[[artifact]]")
    tail = "[accuracy]" + artifacts[-1].partition("[accuracy]")[2]
    bodies = [body.partition("[accuracy]")[0] for body in artifacts]
    taken = [b for b in bodies if any(f'"{p}"' in b and f'"{f}"' in b for p, f in map(str.split, kept))]
    text = head + "".join(f"[[artifact]]{body}" for body in taken)
    (folder / "model.toml").write_text(text if "[accuracy]" in head else text + tail)
    for file in shipped.iterdir():
        if file.name != "model.toml":
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def jetson(tmp_path: Path) -> Jetson:
    return Jetson(tmp_path)


def backends(events: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(event["model"]["precision"], event["model"]["backend"]) for event in events}


def test_from_its_files_to_an_event(jetson: Jetson, tmp_path: Path) -> None:
    """An ONNX bundle: found out, planned, built, run; every event tells the ONNX file that is at work."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx", "int8 tflite")
    target, now, wanted = jetson.probe(bundle)
    assert target == ["10.3.0", "8.7", "36.4.3"]
    assert (now, wanted) == ("int8.tflite", "fp16.onnx")
    built = jetson.do("build", bundle)
    assert built.stdout == "fp16.onnx\n", built.stderr
    assert jetson.probe(bundle)[1:] == ["fp16.onnx", "fp16.onnx"]
    events, log = jetson.run(bundle)
    assert backends(events) == {("fp16", "tensorrt")}
    assert {event["type"] for event in events} >= {"new", "end"}
    assert "self-test" not in log, "it was built before"


def test_a_bundle_that_nothing_else_can_run_is_built_first(jetson: Jetson, tmp_path: Path) -> None:
    """ONNX alone: the start waits for the engine; INT8 that is refused gives way to FP16, and both are told."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx", "int8 onnx")
    events, log = jetson.run(bundle, double="refuse=QuantizeLinear")
    assert backends(events) == {("fp16", "tensorrt")}
    assert "QuantizeLinear" in log
    _, again = jetson.run(bundle)
    assert "self-test" not in again, "what failed is not tried again, what is built is not built again"


def test_a_gpu_that_fails_at_work_ends_one_run_alone(jetson: Jetson, tmp_path: Path) -> None:
    """What follows runs TFLite, for a day, and says why: no endless loop of starts. By hand it is built again."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx", "int8 tflite")
    assert jetson.do("build", bundle).returncode == 0
    assert "illegal memory access" in jetson.run_until_the_gpu_fails(bundle)
    events, _ = jetson.run(bundle)
    assert backends(events) == {("int8", "litert-xnnpack")}
    assert jetson.probe(bundle)[1:] == ["int8.tflite", "int8.tflite"]
    assert jetson.do("build", bundle).returncode == 0
    assert backends(jetson.run(bundle)[0]) == {("fp16", "tensorrt")}


def test_a_gpu_that_fails_where_nothing_else_can_run_is_tried_again(jetson: Jetson, tmp_path: Path) -> None:
    """ONNX alone: the engine stays."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx")
    assert jetson.do("build", bundle).returncode == 0
    jetson.run_until_the_gpu_fails(bundle)
    assert backends(jetson.run(bundle)[0]) == {("fp16", "tensorrt")}


def test_an_engine_that_ends_the_process_does_so_twice_alone(jetson: Jetson, tmp_path: Path) -> None:
    """Native code that crashes raises nothing: the starts that died are counted; the third runs TFLite and says why."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx", "int8 tflite")
    assert jetson.do("build", bundle).returncode == 0
    for _ in range(2):
        assert jetson.probe(bundle)[1] == "fp16.onnx"
        jetson.run_until_it_crashes(bundle)
    events, log = jetson.run(bundle, double=f"crash=work crash_after={RUNS}")
    assert ("int8", "litert-xnnpack") in backends(events), "beside what the crashes left unsent"
    assert "it ended the process: 2 starts ended with it at work" in log
    assert jetson.probe(bundle)[1:] == ["int8.tflite", "int8.tflite"]
    assert jetson.do("build", bundle).returncode == 0
    assert backends(jetson.run(bundle)[0]) == {("fp16", "tensorrt")}


def test_an_engine_that_ends_the_process_stays_where_nothing_else_can_run(
    jetson: Jetson, tmp_path: Path
) -> None:
    """ONNX alone: whenever TensorRT works again, so does the agent."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx")
    assert jetson.do("build", bundle).returncode == 0
    for _ in range(3):
        jetson.run_until_it_crashes(bundle)
    assert jetson.probe(bundle)[1] == "fp16.onnx"
    assert backends(jetson.run(bundle)[0]) == {("fp16", "tensorrt")}


@pytest.mark.parametrize(
    ("double", "said"),
    [
        ("version=8.6.2", "10.3+ needed, this is 8.6.2; upgrade to JetPack 6.1"),
        pytest.param(
            None,
            "this Python can't import it; sudo apt install tensorrt",
            marks=pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here"),
        ),
    ],
)
def test_a_tensorrt_that_can_t_run_is_told_by_every_start(
    jetson: Jetson, tmp_path: Path, double: str | None, said: str
) -> None:
    """TFLite on the CPU of a Jetson is many times slower: nobody shall have to find out."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx", "int8 tflite")
    events, log = jetson.run(bundle, double=double)
    assert backends(events) == {("int8", "litert-xnnpack")}
    (told,) = [line for line in log.splitlines() if "TensorRT can't run here" in line]
    assert said in told


def test_why_nothing_can_run_is_told_by_every_start(jetson: Jetson, tmp_path: Path) -> None:
    """ONNX alone, and TensorRT refuses it: the second start, which does not try again, says the same."""
    bundle = bundle_of(tmp_path / "bundle", "int8 onnx")
    for _ in range(2):
        done = jetson.do("run", bundle, sample_clip(), jetson.sink, double="refuse=QuantizeLinear")
        assert done.returncode != 0
        assert "QuantizeLinear" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("damage", ["truncated", "of another version"])
def test_an_engine_that_is_no_good_gives_way(jetson: Jetson, tmp_path: Path, damage: str) -> None:
    """TFLite serves; one line says that the engine is thrown away; it is built again when asked for."""
    bundle = bundle_of(tmp_path / "bundle", "fp16 onnx", "int8 tflite")
    assert jetson.do("build", bundle).returncode == 0
    (place,) = (path for path in (jetson.state / "engines").iterdir() if path.is_dir())
    if damage == "truncated":
        (place / "plan").write_bytes((place / "plan").read_bytes()[:-100])
    else:
        record = place / "engine.json"
        record.write_text(record.read_text().replace("10.3.0", "10.2.0"))
    events, log = jetson.run(bundle)
    assert backends(events) == {("int8", "litert-xnnpack")}
    thrown = [line for line in log.splitlines() if "thrown away" in line]
    assert len(thrown) == 1
    assert jetson.do("build", bundle).returncode == 0
    assert backends(jetson.run(bundle)[0]) == {("fp16", "tensorrt")}
