"""`edge-agent engine`, and engines that are built while `run` goes on; with the doubles of TensorRT and CUDA."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.starter import sample_clip
from tests import doubles
from tests.bench.latency import clip_scene
from tests.e2e.brokers import wait_for
from tests.e2e.cameras.rtsp import RtspCamera
from tests.e2e.test_jetson import bundle_of
from tests.patience import HANGS_S
from tests.unit.enginestore.bundles import make_bundle

ROOT = Path(__file__).parents[2]
AGENT = [sys.executable, "-m", "agent"]


def surroundings(double: str = "") -> dict[str, str]:
    keep = {key: value for key, value in os.environ.items() if key not in {"RUNTIME_DIRECTORY", "PYTHONPATH"}}
    return {**keep, "COLUMNS": "80", **doubles.environment(settings=double)}


def do(*arguments: object, double: str | None = "") -> subprocess.CompletedProcess[str]:
    """Run `edge-agent` with the double of TensorRT set so; None: without it."""
    return subprocess.run(
        [*AGENT, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ if double is None else surroundings(double),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


def test_an_engine_is_built_listed_and_removed(tmp_path: Path) -> None:
    """In 80 columns and as one JSON document each; the second build finds it."""
    bundle, state = make_bundle(tmp_path / "tiny", "int8", "fp16").path, tmp_path / "state"
    built = do("engine", "build", "--model", bundle, "--state", state)
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith("tiny 1: int8.onnx (int8) for TensorRT 10.3.0, ")
    other = do("engine", "build", "--model", bundle, "--state", state, "--precision", "fp16", "--json")
    assert json.loads(other.stdout)["precision"] == "fp16"
    listed = json.loads(do("engine", "list", "--state", state, "--json").stdout)
    assert [each["engine"]["artifact"] for each in listed] == ["fp16.onnx", "int8.onnx"]
    table = do("engine", "list", "--state", state).stdout
    assert "int8.onnx" in table
    assert max(map(len, table.splitlines())) <= 80
    kept = json.loads(do("engine", "gc", "--state", state, "--json").stdout)
    assert kept == []
    gone = do("engine", "gc", "--state", state, "--max-mbytes", "0")
    assert gone.stdout.startswith("2 engines removed, ")
    assert do("engine", "list", "--state", state).stdout == "no engine was built here\n"


def test_a_refused_network_is_65_and_one_line(tmp_path: Path) -> None:
    """Node and reason are in it; nothing goes to standard output."""
    bundle = make_bundle(tmp_path / "tiny", "int8").path
    done = do("engine", "build", "--model", bundle, "--state", tmp_path / "state", double="refuse=Abs")
    assert (done.returncode, done.stdout) == (65, "")
    assert len(done.stderr.splitlines()) == 1
    assert "node odd (Abs)" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_without_tensorrt_it_is_69_and_says_what_to_do(tmp_path: Path) -> None:
    """And no state directory is made."""
    bundle = make_bundle(tmp_path / "tiny", "int8").path
    done = do("engine", "build", "--model", bundle, "--state", tmp_path / "state", double=None)
    assert (done.returncode, done.stdout) == (69, "")
    assert "TensorRT can't run here" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_bundle_without_such_a_file_is_65(tmp_path: Path) -> None:
    """It names what makes one."""
    bundle = make_bundle(tmp_path / "tiny", "fp16").path
    done = do("engine", "build", "--model", bundle, "--precision", "int8", "--state", tmp_path / "state")
    assert done.returncode == 65
    assert "edge-calibrate build" in done.stderr


def test_what_the_configuration_names_is_built_where_it_says(tmp_path: Path) -> None:
    """Its model and its state directory, whatever lies in the current directory."""
    make_bundle(tmp_path / "tiny", "fp16")
    config = tmp_path / "config.toml"
    config.write_text('model = "tiny"\nstate_dir = "state"\n[[camera]]\nname = "yard"\nsource = "yard.mp4"\n')
    (tmp_path / "msgspec.py").write_text("raise SystemExit('not ours')\n")
    start = "import sys; sys.path.remove(''); from agent.cli import main; main()"
    around = surroundings()
    done = subprocess.run(
        [sys.executable, "-c", start, "engine", "build", "--config", str(config)],
        cwd=tmp_path,
        env={**around, "PYTHONPATH": os.pathsep.join([around["PYTHONPATH"], str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.stdout.startswith("tiny 1: fp16.onnx"), done.stderr
    assert list((tmp_path / "state" / "engines").glob("*/plan"))


@pytest.mark.parametrize(
    "command", [("engine", "build"), ("tune", "--seconds", "0.1")], ids=["build", "tune"]
)
def test_what_the_configuration_does_not_trust_is_65(tmp_path: Path, command: tuple[str, ...]) -> None:
    """As `run` refuses it: nothing is built of a bundle without the signature that it must have."""
    make_bundle(tmp_path / "tiny", "fp16")
    config = tmp_path / "config.toml"
    camera = '[[camera]]\nname = "yard"\nsource = "yard.mp4"\n'
    models = "[models]\nrequire_signature = true\n"
    config.write_text(f'model = "tiny"\nstate_dir = "state"\n{camera}{models}')
    done = do(*command, "--config", config)
    assert done.returncode == 65, done.stderr
    assert "bundle is not signed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "state").glob("engines/*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be in the way of another user")
def test_root_leaves_nothing_in_the_directory_of_the_service(tmp_path: Path) -> None:
    """The service could not write beside it: exit code 77, and who to be."""
    bundle, state = make_bundle(tmp_path / "tiny", "int8").path, tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    done = do("engine", "build", "--model", bundle, "--state", state)
    assert (done.returncode, done.stdout) == (77, "")
    assert "it belongs to nobody" in done.stderr
    assert "sudo -u nobody" in done.stderr
    assert list(state.iterdir()) == []


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Exit code 130, no draft, no note of a failure."""
    bundle, state = make_bundle(tmp_path / "tiny", "int8").path, tmp_path / "state"
    command = [*AGENT, "engine", "build", "--model", str(bundle), "--state", str(state)]
    with subprocess.Popen(
        command, cwd=ROOT, env=surroundings("step_s=60"), stderr=subprocess.PIPE
    ) as building:
        wait_for(lambda: list((state / "engines").glob("*.part")), HANGS_S, "the build to begin")
        building.send_signal(signal.SIGINT)
        _, said = building.communicate(timeout=HANGS_S)
    assert building.returncode == 130, said
    assert [path.name for path in (state / "engines").iterdir()] == ["lock"]


def status(state: Path) -> dict[str, Any]:
    done = do("status", "--state", state, "--json", double=None)
    return json.loads(done.stdout) if done.stdout else {}


def events(sink: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.read_text().splitlines()] if sink.exists() else []


@pytest.mark.long
@pytest.mark.parametrize("refused", ["", "QuantizeLinear"])
def test_a_new_engine_takes_over_while_the_camera_goes_on(tmp_path: Path, refused: str) -> None:
    """TFLite serves meanwhile and `status` tells how far the build is; no event is lost, none ends for it.

    INT8 that TensorRT refuses gives way to FP16; `status` is degraded and says why.
    """
    bundle = bundle_of(tmp_path / "bundle", "int8 tflite", "int8 onnx", "fp16 onnx")
    state, sink = tmp_path / "state", tmp_path / "events.jsonl"
    command = [*AGENT, "run", "--model", str(bundle), "--state", str(state), "--sink", str(sink)]
    precision = "fp16" if refused else "int8"
    with RtspCamera(size=(768, 576), fps=10, gop=10, scene=clip_scene(sample_clip())) as camera:
        double = f"step_s=0.5 refuse={refused}" if refused else "step_s=0.5"
        with subprocess.Popen(
            [*command, "--source", camera.url], cwd=ROOT, env=surroundings(double), stderr=subprocess.PIPE
        ) as agent:
            try:
                wait_for(
                    lambda: any(e["building"] for e in status(state).get("engines", ())), HANGS_S, "a build"
                )
                before = {each["model"]["backend"] for each in events(sink)}
                wait_for(
                    lambda: any(each["model"]["backend"] == "tensorrt" for each in events(sink)),
                    HANGS_S,
                    "an event of the new engine",
                )
                now = status(state)
            finally:
                agent.send_signal(signal.SIGTERM)
                _, said = agent.communicate(timeout=HANGS_S)
    assert agent.returncode == 0, said
    assert before <= {"litert-xnnpack"}
    (engine,) = now["engines"]
    assert (engine["backend"], engine["precision"], engine["building"]) == ("tensorrt", precision, "")
    assert len(engine["failures"]) == bool(refused)
    assert bool(refused) == any("QuantizeLinear" in reason for reason in now["reasons"])
    told = events(sink)
    assert {e["model"]["precision"] for e in told if e["model"]["backend"] == "tensorrt"} == {precision}
    assert not any(e["reason"] not in {None, "shutdown", "lost"} for e in told), {e["reason"] for e in told}
    for lane in ("P0", "P1"):
        numbers = [int(e["id"].rpartition("/")[2]) for e in told if f"/{lane}/" in e["id"]]
        assert numbers == list(range(1, len(numbers) + 1))
    begun = [e["event_id"] for e in told if e["type"] == "new"]
    assert sorted(begun) == sorted(e["event_id"] for e in told if e["type"] == "end")
