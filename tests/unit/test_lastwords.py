"""What a bad end leaves, and what the next start makes of it."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig, CannotCreate, TryAgain
from agent.lastwords import NAME, SHORT_S, WAITS_S, LastWords, read_words, stopped_within
from agent.payloads import DETAIL_BYTES
from agent.systemd import Systemd
from tests.patience import HANGS_S

DYING = """
import ctypes, os, sys, threading
from pathlib import Path
from agent.lastwords import LastWords

def waiting():
    threading.Event().wait()

def hanging_call():
    inside.set()
    ctypes.CDLL(None).pause()

inside = threading.Event()
with LastWords(Path(sys.argv[1])) as words:
    for target in (waiting, hanging_call):
        threading.Thread(target=target, daemon=True).start()
    inside.wait()
    words.look("stuck", ["engine: rtsp://me:hunter2@cam"], 1.0)
    {end}
"""


def died(folder: Path, end: str) -> int:
    """Let a process end as `end` says; return its exit code."""
    command = [sys.executable, "-c", DYING.replace("{end}", end), str(folder)]
    return subprocess.run(command, check=False, timeout=HANGS_S, capture_output=True).returncode


def last_of(folder: Path) -> tuple[str, str] | None:
    """Return reason and detail of the end before this start, which is a good one."""
    with LastWords(folder) as words:
        return words.last and (words.last.reason, words.last.detail)


@pytest.mark.parametrize(("signal_name", "reason"), [("SIGABRT", "aborted"), ("SIGSEGV", "crashed")])
def test_a_fatal_signal_leaves_the_stacks_of_all_threads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, signal_name: str, reason: str
) -> None:
    """With what was known to hang before them, the busy thread ahead of the waiting one; no login is in them."""
    number = getattr(signal, signal_name)
    assert died(tmp_path, f"os.kill(os.getpid(), {int(number)}); threading.Event().wait()") == -number
    seen = last_of(tmp_path)
    assert seen is not None
    assert seen[0] == reason
    lines = seen[1].splitlines()
    assert lines[:2] == [
        "stuck: engine: rtsp://***@cam",
        f"Fatal Python error: {'Aborted' if reason == 'aborted' else 'Segmentation fault'}",
    ]
    threads = [line for line in lines if line.startswith("thread: ")]
    assert len(threads) == 3
    assert re.search(r"hanging_call \(<string>:\d+\) < run \(.*threading.py:\d+\)", seen[1])
    assert "waiting" in threads[-1]
    assert "hanging_call" in caplog.text
    assert last_of(tmp_path) is None


@pytest.mark.parametrize(
    ("end", "reason", "detail"),
    [
        ("os.kill(os.getpid(), 9)", "killed", ""),
        ("raise RuntimeError('no such thing')", "fault", "RuntimeError: no such thing"),
        (
            "from agent.errors import IOFault; raise IOFault('disk', seen='gone')",
            "fault",
            "fault: disk: gone",
        ),
    ],
)
def test_other_bad_ends(tmp_path: Path, end: str, reason: str, detail: str) -> None:
    """A kill says nothing, a fault all that Python knows of it."""
    assert died(tmp_path, end)
    seen = last_of(tmp_path)
    assert seen is not None
    assert (seen[0], detail in seen[1]) == (reason, True)


@pytest.mark.parametrize("fault", [None, TryAgain("left"), BadConfig("typo"), KeyboardInterrupt()])
def test_an_end_in_order_leaves_nothing(tmp_path: Path, fault: BaseException | None) -> None:
    """Nor do faults that systemd does not start anew for, and they slow no later start."""
    words = LastWords(tmp_path)
    words.__enter__()
    words.__exit__(type(fault), fault, None)
    assert not list(tmp_path.iterdir())


def ended_badly(folder: Path, *, well: bool = False) -> float:
    """Start, run for a while, and end badly; return how long that start was to wait."""
    with contextlib.suppress(CannotCreate), LastWords(folder) as words:
        words.look("ok", (), 100.0)
        if well:
            words.look("degraded", ("broker: away",), 100.0 + SHORT_S)
        raise CannotCreate("sink")
    return words.wait_s


def test_starts_that_follow_short_runs_wait(tmp_path: Path) -> None:
    """The first does not, then longer and longer; a run that was well, or a stop in order, is a new beginning."""
    waits = [ended_badly(tmp_path) for _ in range(8)]
    assert waits == [0, 0, 2, 10, 30, 60, 60, 60]
    assert ended_badly(tmp_path, well=True) == 60
    assert [ended_badly(tmp_path) for _ in range(3)] == [0, 0, 2]
    assert last_of(tmp_path)
    assert ended_badly(tmp_path) == 0


def test_a_run_that_hangs_now_and_then_is_not_well(tmp_path: Path) -> None:
    """The time counts from when it last hung."""
    with LastWords(tmp_path) as words:
        for second in range(0, 600, 10):
            words.look("stuck" if second % 50 == 0 else "ok", ("engine",), second)
        text = (tmp_path / NAME).read_text()
        assert "well" not in text.splitlines()
        words.look("ok", (), 1000.0)
        words.look("ok", (), 1001.0)
        assert (tmp_path / NAME).read_text().splitlines()[-1] == "well"


def test_the_fault_of_a_thread_is_kept_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent may go on without that thread; when it is killed for it, its successor knows why."""

    def broken() -> None:
        raise RuntimeError("no such thing")

    before = threading.excepthook
    seen: list[object] = []
    threading.excepthook = seen.append
    try:
        with LastWords(tmp_path):
            thread = threading.Thread(target=broken, name="capture")
            thread.start()
            thread.join()
            text = (tmp_path / NAME).read_text()
    finally:
        threading.excepthook = before
    assert "thread capture: RuntimeError: no such thing\nTraceback" in text
    assert len(seen) == 1


def test_another_agent_s_words_are_left_alone(tmp_path: Path) -> None:
    """A second start in the same directory neither reads nor removes them."""
    with LastWords(tmp_path):
        text = (tmp_path / NAME).read_text()
        with LastWords(tmp_path) as second:
            assert second.last is None
            second.look("stuck", (), 1.0)
        assert (tmp_path / NAME).read_text() == text


def test_without_a_place_it_goes_on(tmp_path: Path) -> None:
    """A file in the place of the directory, or a link in that of the file: nothing is kept."""
    (tmp_path / "file").touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / NAME).symlink_to(tmp_path / "target")
    for folder in (tmp_path / "file", tmp_path / "linked", None):
        with LastWords(folder) as words:
            words.look("stuck", (), 1.0)
        assert words.last is None
    assert not (tmp_path / "target").exists()


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    """However often something hangs."""
    with LastWords(tmp_path) as words:
        for second in range(2000):
            words.look("stuck" if second % 2 else "ok", ("x" * 200,), second)
        assert (tmp_path / NAME).stat().st_size < 64 << 10


TRACE = b"""started after 3 short runs
Fatal Python error: Aborted

Thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 3 in wait
  <no Python frame>

Current thread 0x00007f [main] (most recent call first):
  File "/opt/agent/daemon.py", line 9 in run
  ...

Extension modules: numpy (total: 1)
"""


def test_what_broke_comes_before_where(tmp_path: Path) -> None:
    """Of a fault with a traceback longer than a birth may hold, its own words are told."""
    with contextlib.suppress(ValueError), LastWords(tmp_path):
        try:
            raise ValueError("y" * DETAIL_BYTES)
        except ValueError as first:
            raise ValueError("the engine broke") from first
    with LastWords(tmp_path) as words:
        assert words.last is not None
        assert words.last.detail.startswith("fault: ValueError: the engine broke\n")


def test_stacks_of_any_python_are_read() -> None:
    """Thread names, cut stacks, lists of modules."""
    words = read_words(TRACE)
    assert (words.reason, words.short) == ("aborted", 4)
    assert words.told(DETAIL_BYTES, frames=4).splitlines() == [
        "Fatal Python error: Aborted",
        "thread: run (agent/daemon.py:9)",
        "thread: wait (python3.11/threading.py:3)",
    ]


PIECES = st.sampled_from(
    [*TRACE.splitlines(keepends=True), b"well\n", b"fault: x\n", b"mqtt://me:hunter2@b\n"]
)


@given(st.one_of(st.binary(), st.lists(st.one_of(st.binary(), PIECES)).map(b"".join)), st.integers(4, 3000))
def test_any_file_is_read(raw: bytes, max_bytes: int) -> None:
    """Garbage has a reason, a count and a text within the bound."""
    words = read_words(raw)
    assert 0 <= words.short <= len(WAITS_S) + 1
    told = words.told(max_bytes, frames=4)
    assert len(told.encode()) <= max_bytes


@given(st.binary(max_size=200))
def test_no_login_is_told(noise: bytes) -> None:
    """Whatever stands around it."""
    assert "hunter2" not in read_words(noise + b"\nrtsp://me:hunter2@cam/1\n" + noise).text


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    """Be the service manager at tmp_path/notify."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.bind(str(tmp_path / "notify"))
    link.settimeout(HANGS_S)
    return link


def test_a_stop_ends_the_wait_at_once(tmp_path: Path, manager: socket.socket) -> None:
    """The manager is told how long it takes and why; READY is not said."""
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    happenings: queue.SimpleQueue[object] = queue.SimpleQueue()
    with manager:
        for what in ("SIGHUP", "SIGTERM"):
            happenings.put(what)
        assert stopped_within(3600.0, happenings, systemd)
        words = "STATUS=starting in 3600 s: the last runs ended badly, see the journal"
        assert manager.recv(4096).decode().split("\n") == ["EXTEND_TIMEOUT_USEC=3690000000", words]
        assert manager.recv(4096).decode().split("\n")[0] == "STOPPING=1"


def test_a_wait_that_is_over_forgets_no_reload(tmp_path: Path, manager: socket.socket) -> None:
    """What else has happened meanwhile is there for the run."""
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    happenings: queue.SimpleQueue[object] = queue.SimpleQueue()
    with manager:
        happenings.put("SIGHUP")
        assert not stopped_within(0.01, happenings, systemd)
        assert not stopped_within(0.0, happenings, systemd)
    assert happenings.get_nowait() == "SIGHUP"
    assert happenings.empty()
