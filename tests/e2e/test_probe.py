"""`edge-agent probe` as a user runs it: on this machine, and on copies of other devices' files."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.starter import PEOPLE, STARTER, shipped_bundle, starter_bundle
from tests.patience import HANGS_S
from tests.unit.hardware.boards import TREES

ROOT = Path(__file__).parents[2]


def probe(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "probe", *map(str, arguments)]
    untuned = {**os.environ, "XDG_STATE_HOME": os.devnull}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False, env=untuned
    )


def report(*arguments: object) -> dict[str, Any]:
    return json.loads(probe("--json", *arguments).stdout)


def test_this_machine_has_a_plan() -> None:
    """Here LiteRT runs the starter's INT8 model; the JSON is one document, nothing is said besides."""
    done = probe("--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["board"]["machine"] == platform.machine()
    assert told["plan"]["backend"] == "litert"
    assert told["plan"]["artifact"] == "int8.tflite"
    assert told["plan"]["threads"] >= 1
    assert told["model"].startswith(STARTER)


@pytest.mark.parametrize("tree", TREES)
def test_every_board_has_a_table_that_fits_80_columns(tree: str, tmp_path: Path) -> None:
    """The piped table is readable, without escape codes; exit 0, or 69 where nothing can run."""
    done = probe("--root", TREES[tree].build(tmp_path))
    assert done.returncode == (69 if tree in {"pi-4-32-bit", "riscv"} else 0)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert f"plan for {STARTER}" in done.stdout
    assert "Traceback" not in done.stderr


def test_on_a_jetson_tensorrt_runs_int8(tmp_path: Path) -> None:
    """Of the Q/DQ file; FP16 is what comes next, the processor after that."""
    model = ("--model", shipped_bundle(PEOPLE))
    plan = report("--root", TREES["orin-nano"].build(tmp_path), *model)["plan"]
    assert (plan["backend"], plan["artifact"], plan["precision"]) == ("tensorrt", "int8-qdq.onnx", "int8")
    told = [(each["backend"], each["artifact"], each["reason"]) for each in plan["rejected"]]
    assert ("tensorrt", "fp16.onnx", "int8 comes first") in told
    assert ("litert", None, "tensorrt comes first") in told


def test_a_32_bit_userland_is_exit_69_with_the_fix(tmp_path: Path) -> None:
    """The report is printed all the same; the error is one line that says to install the 64-bit OS."""
    root = TREES["pi-4-32-bit"].build(tmp_path)
    done = probe("--root", root)
    assert done.returncode == 69
    assert "32-bit userland" in done.stdout
    assert "Raspberry Pi 4 B" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "install the 64-bit OS" in done.stderr
    assert report("--root", root)["plan"]["backend"] is None


def test_a_bundle_without_a_tflite_artifact_is_exit_69(tmp_path: Path) -> None:
    """Without a GPU ONNX alone does not run; the fix is to add the other format."""
    bundle = tmp_path / "bundle"
    shutil.copytree(starter_bundle(), bundle)
    head, tflite, *onnx = (bundle / "model.toml").read_text().split("[[artifact]]")
    assert "int8.tflite" in tflite
    (bundle / "model.toml").write_text("[[artifact]]".join([head, *onnx]))
    done = probe("--model", bundle)
    assert done.returncode == 69
    assert "nothing can run" in done.stdout
    assert done.stderr.rstrip().endswith("add one in tflite")


def test_hidden_cpuinfo_is_in_the_table(tmp_path: Path) -> None:
    """What ProcSubset=pid costs is said, with the fix."""
    said = " ".join(probe("--root", TREES["pi-4-hidden"].build(tmp_path)).stdout.split())
    assert "XNNPACK will silently turn itself off" in said
    assert "no ProcSubset=pid" in said


def test_markup_and_escapes_in_a_model_string_do_nothing(tmp_path: Path) -> None:
    """A device tree that holds rich's markup, an emoji code and terminal escapes is shown as harmless text."""
    root = TREES["pi-5"].build(tmp_path)
    (root / "proc/device-tree/model").write_bytes(b"[/red][bold]:smile: \x1b[2J\0")
    done = probe("--root", root)
    assert done.returncode == 0
    assert "[/red][bold]:smile:" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--root", "nowhere"], 66, "no such directory"),
        (["--model", "nowhere"], 66, "model bundle not found"),
        (["--model", "README.md"], 65, "model bundle is not a directory"),
        (["--frobnicate"], 2, "No such option"),
        (["--log-format", "json"], 2, "It goes before the command."),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], code: int, words: str) -> None:
    """Exit code and what is wrong, nothing on standard output."""
    done = probe(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_is_74() -> None:
    """`probe | true` says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "agent", "probe"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=HANGS_S,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (74, b"")


def test_it_needs_only_the_core() -> None:
    """Neither OpenCV nor PyAV nor the decoder of any camera is loaded."""
    script = (
        "import sys; from agent.cli import cli; cli(['probe', '--json'], standalone_mode=False);"
        "print(sorted({'cv2', 'av', 'paho', 'ai_edge_litert', 'amqtt'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=True,
    )
    assert done.stderr.strip() == "[]"
