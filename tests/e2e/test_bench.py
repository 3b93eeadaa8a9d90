"""`edge-agent bench` as a user runs it: what it prints and leaves, and what it says when it can't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.bench.session import RATE_ROUNDS
from agent.starter import sample_clip
from tests.patience import HANGS_S
from tests.unit.capture.clips import even, write_clip

ROOT = Path(__file__).parents[2]
LIMIT_S = HANGS_S
NO_OPENCV = "raise ImportError('no OpenCV here')\n"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of 40 small frames, so that a bench takes seconds."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", even(40, fps=25), size=(320, 240), fps=25)


def bench(
    *args: object, without_opencv: Path | None = None, limit_s: float = LIMIT_S
) -> subprocess.CompletedProcess[str]:
    """Run the command; in the folder `without_opencv` goes what hides OpenCV from it."""
    env = dict(os.environ)
    if without_opencv is not None:
        (without_opencv / "cv2.py").write_text(NO_OPENCV)
        env["PYTHONPATH"] = str(without_opencv)
    command = [sys.executable, "-m", "agent", "bench", *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit_s, check=False
    )


def complaint(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check for the exit code and the one line of an error, which holds `words`."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("edge-agent: error: ")
    for word in words:
        assert word in lines[0]


def check_figures(found: dict[str, Any]) -> None:
    """Check what does not depend on the machine."""
    assert found["setting"]["engine"]["delegated_nodes"] > 0
    assert found["setting"]["frames"] == 40
    assert found["efficiency"] > 0
    assert found["pipeline_fps"] > 0
    assert found["engine_limit_fps"] > 0
    assert 0 < found["cpu_ms_per_frame"] < 1000
    assert 0 < found["sampled_cpu_ms_per_frame"] < 1000
    assert set(found["stages"]) == {"decode", "prepare", "infer", "finish"}
    assert found["age"]["p95_ms"] >= found["age"]["p50_ms"] > 0
    assert 0.1 < found["startup_s"] < HANGS_S
    assert len(found["raw"]["rates"]) == found["spreads"]["efficiency"]["rounds"] == RATE_ROUNDS


def test_a_bench_of_two_cameras_leaves_its_figures_and_a_picture(clip: Path, tmp_path: Path) -> None:
    """Every figure is there; the table is on standard output, with the time it takes before it."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    files = ["--json", tmp_path / "bench.json", "--plot", tmp_path / "bench.png"]
    done = bench("--source", clip, "--rounds", 1, "--cameras", 2, "--threads", 1, *files)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "bench.json").read_text())
    check_figures(found)
    assert found["naive_fps"] > 0
    assert found["plain_fps"] is None
    assert found["sampled_cpu_vs_naive"] > 0
    assert found["grab_cpu_ms_per_frame"] > 0
    assert found["sampled_cpu_vs_grab"] > 0
    assert 0 < found["fairness"] <= 1
    assert cv2.imread(str(tmp_path / "bench.png")) is not None
    lines = done.stdout.splitlines()
    assert next(n for n, line in enumerate(lines) if line.startswith("about ")) < next(
        n for n, line in enumerate(lines) if line.startswith("round 1 of 1")
    )
    assert any(line.startswith("efficiency: pipeline / engine") for line in lines)


def test_without_opencv_it_says_so_and_measures_the_rest(clip: Path, tmp_path: Path) -> None:
    """`--json -` has standard output for itself; the plain loop over PyAV frames is the comparison."""
    done = bench("--source", clip, "--rounds", 1, "--json", "-", without_opencv=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    check_figures(found)
    assert (found["naive_fps"], found["sampled_cpu_vs_naive"], found["fairness"]) == (None, None, None)
    assert found["plain_fps"] > 0
    assert "naive_fps needs OpenCV" in done.stderr
    assert "pip install" in found["setting"]["notes"][0]


def test_a_picture_without_opencv_is_refused_at_once(clip: Path, tmp_path: Path) -> None:
    """Before anything is measured."""
    done = bench("--source", clip, "--plot", tmp_path / "p.png", without_opencv=tmp_path)
    complaint(done, 66, "--plot needs OpenCV", "pip install")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--source", "no/such.mp4"], 66, ["no such file", "no/such.mp4"]),
        (["--source", "rtsp://u:hunter2@127.0.0.1/x"], 2, ["bench needs a file", "***@127.0.0.1"]),
        (["--source", str(ROOT / "README.md")], 65, ["README.md"]),
        (["--model", "no/bundle"], 66, ["no/bundle"]),
        (["--json", "no/such/folder/bench.json"], 73, ["bench.json"]),
        (["--rounds", "0"], 2, ["--rounds"]),
        (["--cameras", "0"], 2, ["--cameras"]),
        (["--mbit", "nan"], 2, ["--mbit"]),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(args: list[str], code: int, words: list[str]) -> None:
    """The errors of the product."""
    complaint(bench(*args), code, *words)


def test_a_clip_too_short_to_measure_is_refused(tmp_path: Path) -> None:
    """Ten frames say nothing."""
    done = bench("--source", write_clip(tmp_path / "short.mp4", even(10)))
    complaint(done, 65, "too short", "10 frames")


def test_a_broken_model_is_refused(tmp_path: Path) -> None:
    """As `run` does it."""
    (tmp_path / "model.toml").write_text("schema = 1\n")
    complaint(bench("--source", sample_clip(), "--model", tmp_path), 65)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_standard_clip_needs_nothing_but_the_command(tmp_path: Path) -> None:
    """Made once; the still one shows what idle costs: less than awake at 5 inferences a second."""
    done = bench("--rounds", 1, "--cache", tmp_path, "--json", tmp_path / "b.json", limit_s=800)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["setting"]["clip"]["width_px"] == 1920
    assert found["raw"]["sampled"][0]["runs"]["sampled"]["inferred"] in (100, 101)
    assert found["idle_cpu_ms_per_frame"] < found["sampled_cpu_ms_per_frame"]
    assert all(one["runs"]["idle"]["not_decoded"] > 150 for one in found["raw"]["idle"])
    assert found["idle_paced_cpu_ms_per_frame"] < found["sampled_cpu_ms_per_frame"]
    assert all(one["runs"]["idle_paced"]["not_decoded"] > 150 for one in found["raw"]["idle_paced"])
    assert len(list(tmp_path.glob("*.mp4"))) == 2
