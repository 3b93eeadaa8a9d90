"""`edge-agent tune` as a user runs it, and what `probe`, `check` and `run` make of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.starter import STARTER, sample_clip
from tests import doubles
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
ONE_CPU = (
    "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from agent.cli import main; main()"
)
"""There are fewest candidates on one CPU."""


def agent(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ONE_CPU, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=2 * HANGS_S, check=False, **more
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Return a state directory with a tuning of the starter, and what the command said."""
    state = tmp_path_factory.mktemp("state")
    return state, agent("tune", "--state", state, "--seconds", "0.1", "--json")


def test_the_starter_is_measured_with_and_without_the_delegate(tuned) -> None:
    """One JSON document and nothing else; INT8 on XNNPACK is chosen, with its figures; what it lacks is told."""
    state, done = tuned
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    rows = {
        each["choice"]["delegate"]: each for each in told["measured"] if each["choice"]["backend"] == "litert"
    }
    assert rows.keys() == {True, False}
    for row in rows.values():
        assert row["inferences"] >= 9
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["peak_rss_mb"] > 10
        assert row["objection"] == ""
    assert told["chosen"]["artifact"] == "int8.tflite"
    assert told["chosen"]["threads"] == 1
    assert "litert float: the bundle has no float tflite" in told["absent"]
    assert [path.suffix for path in (state / "tuning").iterdir()] == [".json"]


def test_probe_tells_what_was_measured_and_takes_it(tuned) -> None:
    """Date, figures and factor."""
    state, done = tuned
    chosen = json.loads(done.stdout)["chosen"]
    plan = json.loads(agent("probe", "--json", "--state", state).stdout)["plan"]
    assert {key: plan[key] for key in chosen} == chosen
    assert plan["tuned"].startswith("tuned on 20")
    assert "litert int8, 1 thread" in plan["tuned"]
    table = agent("probe", "--state", state).stdout
    assert "why  tuned on 20" in table
    assert max(map(len, table.splitlines())) <= 80


def test_what_was_measured_on_other_hardware_is_told_and_not_used(tuned, tmp_path: Path) -> None:
    """Here it has two CPUs by then."""
    state, _ = tuned
    (kept,) = (state / "tuning").iterdir()
    record = json.loads(kept.read_text())
    record["device"]["usable_cpus"] = 64
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / kept.name).write_text(json.dumps(record))
    plan = json.loads(agent("probe", "--json", "--state", tmp_path).stdout)["plan"]
    assert plan["tuned"] == ""
    assert "usable cpus: 64 then, 1 now" in plan["warnings"][0]


def without_the_delegate(tuned: Path, state: Path) -> None:
    """Put into `state` a tuning in which XNNPACK has failed."""
    (kept,) = (tuned / "tuning").iterdir()
    record = json.loads(kept.read_text())
    for row in record["measured"]:
        row["objection"] = "it crashed" if row["choice"]["delegate"] else ""
    (state / "tuning").mkdir()
    (state / "tuning" / kept.name).write_text(json.dumps(record))


def test_run_does_what_was_measured_best(tuned, tmp_path: Path) -> None:
    """Even without XNNPACK, where that was taken: every event names the backend."""
    without_the_delegate(tuned[0], tmp_path)
    sink = tmp_path / "events.jsonl"
    done = agent("run", "--source", sample_clip(), "--state", tmp_path, "--sink", sink, "--pace", "fastest",
                 "--sample", "interval:10")  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in sink.read_text().splitlines()]
    backends = {event["model"]["backend"] for event in events if "model" in event}
    assert backends == {"litert"}


def test_check_does_what_run_does_and_tells_what_is_stale(tuned, tmp_path: Path) -> None:
    """The same engine is timed, off the delegate on purpose; a tuning of other hardware is a warning."""
    without_the_delegate(tuned[0], tmp_path)
    asked = ("check", "--source", sample_clip(), "--state", tmp_path, "--json")
    rows = json.loads(agent(*asked).stdout)["findings"]
    assert any("TFLite's own kernels, as `tune` measured them faster" in row["seen"] for row in rows)
    assert not any("many times slower" in row["seen"] for row in rows)
    (kept,) = (tmp_path / "tuning").iterdir()
    kept.write_text(kept.read_text().replace('"usable_cpus": 1', '"usable_cpus": 64'))
    warned = [
        row["seen"] for row in json.loads(agent(*asked).stdout)["findings"] if row["state"] == "warning"
    ]
    assert any("usable cpus: 64 then, 1 now; `edge-agent tune` measures anew" in seen for seen in warned)


@pytest.mark.long
def test_engines_of_tensorrt_are_built_and_measured(tmp_path: Path) -> None:
    """By the double: right in what is called, its times say nothing of a GPU."""
    done = agent(
        "tune", "--state", tmp_path, "--seconds", "0.1", "--json", env={**os.environ, **doubles.environment()}
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    rows = [each for each in told["measured"] if each["choice"]["backend"] == "tensorrt"]
    assert [(each["choice"]["precision"], each["choice"]["batch"]) for each in rows] == [
        ("fp16", 1),
        ("fp16", 4),
    ]
    assert all(each["p50_ms"] > 0 and not each["objection"] for each in rows)
    assert told["device"]["runtimes"]["tensorrt"] == "10.3.0"


def test_a_damaged_tuning_is_one_warning(tuned, tmp_path: Path) -> None:
    """The plan is the one without."""
    state, _ = tuned
    (kept,) = (state / "tuning").iterdir()
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / kept.name).write_text(kept.read_text()[:100])
    done = agent("probe", "--json", "--state", tmp_path)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert "`edge-agent tune` makes it anew" in done.stderr
    assert json.loads(done.stdout)["plan"]["backend"] == "litert"


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -signal.SIGKILL)])
def test_an_end_before_the_end_keeps_nothing(sent: str, code: int, tmp_path: Path) -> None:
    """No file, no draft, no child, however it ends."""
    command = [sys.executable, "-c", ONE_CPU, "tune", "--state", str(tmp_path), "--seconds", "600"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as child:
        worker = _worker_of(child)
        child.send_signal(signal.Signals[sent])
        out, err = child.communicate(timeout=HANGS_S)
    assert (child.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert worker is not None
    assert _ends(worker)
    assert list((tmp_path / "tuning").iterdir()) == []


def _worker_of(child: subprocess.Popen[str]) -> int | None:
    """Wait for the process that measures for `child`; return its id."""
    end_s = time.monotonic() + HANGS_S
    while child.poll() is None and time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            for worker in workers:
                if b"agent.tune.child" in Path(f"/proc/{worker}/cmdline").read_bytes():
                    return int(worker)
    return None


def _ends(pid: int) -> bool:
    """Wait until the process is gone, or is nothing but an entry that nobody has taken note of."""
    end_s = time.monotonic() + HANGS_S
    with contextlib.suppress(OSError):
        while time.monotonic() < end_s:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        return False
    return True


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "nowhere"], 66, "model bundle not found"),
        (["--model", "README.md"], 65, "model bundle is not a directory"),
        (["--state", "README.md"], 73, "give a state directory"),
        (["--config", "nowhere.toml"], 66, "nowhere.toml"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--seconds", "nan"], 2, "--seconds"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    """Before anything is measured."""
    given = arguments if {"--state", "--config"} & {*arguments} else ["--state", str(tmp_path), *arguments]
    done = agent("tune", *given)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_runtime_that_crashes_is_a_row_and_exit_69(tmp_path: Path) -> None:
    """Nothing else can run here: the table says why, and nothing is kept."""
    package = tmp_path / "site" / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    crash = "import os, sys\nif 'agent.tune.child' in sys.orig_argv: os.abort()\n"
    (package / "interpreter.py").write_text(crash)
    done = agent("tune", "--state", tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")})
    assert done.returncode == 69
    assert "not taken: litert int8, 1 thread: it crashed (SIGABRT)" in done.stdout
    assert f"nothing here can run {STARTER}" in done.stderr
    assert list((tmp_path / "tuning").iterdir()) == []


def test_the_model_is_that_of_the_configuration(tmp_path: Path) -> None:
    """Of all its cameras, or one of them has to be named; the starter would be measured for nothing."""
    config = tmp_path / "config.toml"
    config.write_text('model = "of-the-device"\n[[camera]]\nname = "yard"\nsource = "clip.mp4"\n')
    for command in ("tune", "probe"):
        done = agent(command, "--config", config, "--state", tmp_path)
        assert done.returncode == 66
        assert f"{tmp_path}/of-the-device" in done.stderr
    with config.open("a") as file:
        file.write('[[camera]]\nname = "gate"\nsource = "clip.mp4"\nmodel = "another"\n')
    done = agent("tune", "--config", config, "--state", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "several models" in done.stderr
    assert "name one by --model" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could write to what is another's")
def test_root_leaves_nothing_in_the_services_directory(tmp_path: Path) -> None:
    """Its user could not tune again, nor change the engines that are built on the way."""
    os.chown(tmp_path, 65534, 65534)
    done = agent("tune", "--state", tmp_path)
    assert done.returncode == 77
    assert "do it as that user" in done.stderr
    assert [*tmp_path.iterdir()] == []
