"""`edge-agent demo`, for real: agent, broker, subscriber, and what it leaves behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from agent.demo import run_demo
from agent.demo.broker import mosquitto, running_broker
from agent.demo.play import Seen, play
from agent.demo.view import View
from agent.errors import CannotCreate, ServiceAway
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from agent.demo.broker import Broker, BrokerKind

needs_mosquitto = pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")


def lines_of(out: io.StringIO) -> Console:
    """Return a console that is no terminal and writes to `out`."""
    return Console(file=out, force_terminal=False, width=200, highlight=False)


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=needs_mosquitto), "amqtt"])
def test_the_demo_shows_and_keeps_every_event(broker: BrokerKind, tmp_path: Path) -> None:
    """With either broker all events arrive once, from new to end, and the files are there."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pytest.importorskip("amqtt", reason="amqtt is not installed")
    shown = io.StringIO()
    assert run_demo(tmp_path, pace="fastest", broker=broker, console=lines_of(shown)) == 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    lives: dict[str, list[str]] = {}
    for event in events:
        lives.setdefault(event["event_id"], []).append(event["type"])
    assert len(lives) >= 5
    assert all(life[0] == "new" and life[-1] == "end" for life in lives.values())
    assert cv2.imread(str(tmp_path / "contact-sheet.png")).shape[1] >= 960
    text = shown.getvalue()
    assert f"{len(events)} events ({len(lives)} new" in text
    assert "0 duplicates\n200 of 200 frames inferred" in text
    assert "run --source rtsp://" in text
    assert "no CONNACK" not in text, "the agent is told at once which MQTT the broker speaks"


@needs_mosquitto
def test_a_failing_agent_is_one_clear_line_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip that is none ends the demo with what the agent said of it."""
    clip = tmp_path / "clip.mp4"
    clip.write_text("not a video")
    assert run_demo(tmp_path / "out", clip=clip, console=lines_of(io.StringIO())) == 65
    error = capsys.readouterr().err
    assert error.startswith("edge-agent: error: the agent ended with exit code 65: ")
    assert error.count("\n") == 1
    assert str(clip) in error


@needs_mosquitto
def test_the_end_of_the_broker_is_told(tmp_path: Path) -> None:
    """When the broker dies the demo ends at once, and the agent with it."""
    view = View(lines_of(io.StringIO()), duration_s=1.0, realtime=True)
    with running_broker(tmp_path, "mosquitto") as broker, pytest.raises(ServiceAway, match="mosquitto ended"):
        play(_killer(broker, tmp_path), broker, view, io.BytesIO())
    agent = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(agent, 0)


@needs_mosquitto
def test_ctrl_c_ends_every_child(tmp_path: Path) -> None:
    """SIGINT to the demo leaves neither agent nor broker behind, and the exit code 130."""
    command = [sys.executable, "-m", "agent", "demo", "--out", str(tmp_path)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    assert demo.stderr is not None
    with demo.stdout, demo.stderr:
        while " new " not in demo.stdout.readline():
            assert demo.poll() is None
        children = _children(demo.pid)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(HANGS_S) == 130
        assert "Traceback" not in demo.stderr.read()
    assert len(children) == 2
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    """A file where the folder should be is refused before anything starts."""
    (tmp_path / "out").write_text("")
    with pytest.raises(CannotCreate, match="--out"):
        run_demo(tmp_path / "out", console=lines_of(io.StringIO()))


def test_duplicates_are_counted_once_each(tmp_path: Path) -> None:
    """A message whose id came before is a duplicate, not an event."""
    from tests.unit.test_contactsheet import FIRST

    seen = Seen()
    assert [seen.add(FIRST), seen.add(FIRST)] == [True, False]
    assert (len(seen.events), seen.duplicates) == (1, 1)


def _killer(broker: Broker, folder: Path) -> list[str]:
    """Return the command of an agent that kills the broker and then waits for ever."""
    code = "import os, signal, sys, time; open(sys.argv[2], 'w').write(str(os.getpid()))"
    code += "; os.kill(int(sys.argv[1]), signal.SIGKILL); time.sleep(600)"
    return [sys.executable, "-c", code, str(broker.process.pid), str(folder / "pid")]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
