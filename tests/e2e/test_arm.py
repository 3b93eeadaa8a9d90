"""The agent on the processor it is made for, emulated: what it sees of the board, and that XNNPACK takes the network.

EDGE_AGENT_TEST_HOSTS names a directory that keeps the system (400 MB); without it it is made anew, in a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.starter import STARTER, sample_clip
from tests.hosts.arm import Arm, board, make_system, skip_unless_possible
from tests.hosts.base import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

BOARDS = {"pi-4": "cortex-a72", "pi-5": "cortex-a76"}
NETWORK = f"models/{STARTER}/int8.tflite"
INFERRING = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from agent.backends.tflite import TFLiteEngine
engine = TFLiteEngine(Path(sys.argv[1]), precision="int8", threads=2)
picture = np.random.default_rng(4).integers(0, 256, engine.input.shape).astype(engine.input.dtype)
outputs = engine.infer(picture)
print(json.dumps({
    "backend": engine.info.backend,
    "delegated": engine.info.delegated_nodes,
    "outputs": [hashlib.sha256(output.tobytes()).hexdigest() for output in outputs],
}))
"""
CONFIG = """
device = "arm"
state_dir = "/root/state"
sink = "/root/events.jsonl"
[[camera]]
name = "yard"
source = "{clip}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    kept = os.environ.get("EDGE_AGENT_TEST_HOSTS")
    made = Path(kept) / "arm" if kept else tmp_path_factory.mktemp("arm")
    make_system(made)
    return made


@pytest.fixture(scope="module", params=BOARDS)
def pi(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """Return each board in turn."""
    return board(folder, request.param, BOARDS[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def pi_4(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Arm:
    return board(folder, "pi-4", BOARDS["pi-4"], tmp_path_factory.mktemp("board"))


def inferred(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the program INFERRING says."""
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def on_the_board(path: Path) -> str:
    """Return where a file of this tree is on the board."""
    return f"/src/{path.relative_to(ROOT)}"


def here(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `command` on this machine."""
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_board_is_known(pi: Arm) -> None:
    """`probe` names it, and finds that LiteRT runs at full speed."""
    told = json.loads(pi.run("-m", "agent", "probe", "--json").stdout)
    name = (pi.tree / "proc/device-tree/model").read_text().rstrip("\0")
    assert told["board"]["model"] == name
    litert = next(backend for backend in told["backends"] if backend["name"] == "litert")
    assert (litert["usable"], litert["reason"] or "") == (True, "")


def test_check_finds_no_fault(pi: Arm) -> None:
    """Model, self-test, clip and decoder work; XNNPACK runs the network."""
    config = CONFIG.format(clip=on_the_board(sample_clip()))
    (pi.system / "root/config.toml").write_text(config)
    rows = json.loads(pi.run("-m", "agent", "check", "--config", "/root/config.toml", "--json").stdout)[
        "findings"
    ]
    assert not [row for row in rows if row["state"] == "fault"]
    (model,) = (row for row in rows if row["what"].startswith("model"))
    assert "self-test good" in model["seen"]
    assert "XNNPACK runs it in" in model["seen"]


def test_outputs_are_those_of_this_machine(pi: Arm) -> None:
    """XNNPACK takes nodes here and there, and the INT8 outputs are the same bit for bit."""
    arm = inferred(pi.run("-c", INFERRING, f"/src/{NETWORK}"))
    assert arm["delegated"] > 0
    assert arm == inferred(here("-c", INFERRING, NETWORK))


@pytest.mark.parametrize("hidden", [{"hide_proc"}, {"hide_sys"}, {"hide_proc", "hide_sys"}])
def test_without_proc_or_sys_xnnpack_turns_itself_off(pi_4: Arm, hidden: set[str]) -> None:
    """Why the unit must hide neither (ProcSubset=pid): not one node is taken, and the log says so."""
    done = pi_4.run("-c", INFERRING, f"/src/{NETWORK}", **dict.fromkeys(hidden, True))
    said = inferred(done)
    assert (said["backend"], said["delegated"]) == ("litert", 0)
    assert "XNNPACK took none of the" in done.stderr
    assert "no ProcSubset=pid" in done.stderr


def test_detections_are_those_of_this_machine(pi_4: Arm, tmp_path: Path) -> None:
    """`run` on the sample clip: decoder, scaler, network and post-processing give the same to the last digit."""
    options = ["--pace", "fastest", "--sample", "interval:40", "--threads", "2"]

    def command(clip: str, out: str) -> list[str]:
        files = ["--sink", f"{out}/events.jsonl", "--detections", f"{out}/detections.jsonl"]
        return ["-m", "agent", "run", "--source", clip, *options, *files, "--state", f"{out}/state"]

    found = pi_4.system / "root/out"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    for done in (
        pi_4.run(*command(on_the_board(sample_clip()), "/root/out")),
        here(*command(str(sample_clip()), str(tmp_path))),
    ):
        assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (found / "events.jsonl").read_text().splitlines()]
    assert {event["model"]["backend"] for event in events} == {"litert-xnnpack"}
    assert (found / "detections.jsonl").read_bytes() == (tmp_path / "detections.jsonl").read_bytes()
