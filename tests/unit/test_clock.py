"""The wall clock: who sets it, what is told of it, and that nothing else in the agent goes by it."""

from __future__ import annotations

import ast
import shutil
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

import agent
from agent import clock, wire
from agent.transport import Message
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = ("127.0.0.1", 1)
ALLOWED = {
    "clock.py": "the one place that tells events the time",
    "outbox/replacing.py": "the name of a damaged file that is set aside",
    "lastwords.py": "when the run before ended, which the times of its files tell",
    "check/clock.py": "shows the clock to a person",
    "bench/session.py": "when a measurement was made",
    "recording/taking.py": "the names of clips, for people",
    "enginestore/building.py": "when an engine was built, or could not be",
    "enginestore/store.py": "a build that failed for want of memory is tried again a day later, over restarts",
    "tune/session.py": "when a device was measured",
    "commands/asking.py": "when a command that a person sends expires",
    "fleet/pack.py": "when a release was made",
    "modelstore/enginetrial.py": "when a model was tried",
    "modelstore/trial.py": "when a model was tried",
    "modelstore/versions.py": "when a model was installed",
    "modelstore/web.py": "shows the clock where a certificate does not fit it",
}
WALL = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "CLOCK_REALTIME"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin with a clock that nobody has set, and sources of its state that are not there."""
    monkeypatch.setattr(clock._Seen, "synced", False)
    monkeypatch.setattr(clock, "TIMESYNCD", tmp_path / "synchronized")
    monkeypatch.setattr(clock, "CHRONY", NOBODY)


def test_the_marker_of_timesyncd_counts_once_looked_at() -> None:
    """`clock_synced` never asks by itself, and what was set once stays set."""
    assert not clock.look()
    clock.TIMESYNCD.touch()
    assert not clock.clock_synced()
    assert clock.look()
    clock.TIMESYNCD.unlink()
    assert clock.look()
    assert clock.clock_synced()


def test_times_made_before_the_clock_was_set_are_moved() -> None:
    """An event made in 1970 gets the time it had; what needs no shift stays as it is, byte by byte."""
    early = clock.time_base()
    assert early.shift_from_s is not None
    wrong_s = early.shift_from_s - 1e9
    stamped = wire.TimeBase(wrong_s, synced=False).utc(time.monotonic())
    payload = msgspec.json.encode({"id": "a", "time": stamped, "clock_synced": False})
    message = Message(1, "t", payload, offset_s=wrong_s)
    assert clock.freshen(message) == payload
    clock.TIMESYNCD.touch()
    clock.look()
    told = msgspec.json.decode(clock.freshen(message))
    assert told["clock_synced"] is True
    assert told["time"][:15] == clock.time_base().utc(time.monotonic())[:15]
    assert clock.freshen(Message(1, "t", payload)) == payload
    assert clock.time_base().shift_from_s is None


def test_the_clock_of_a_clip_begins_at_its_start() -> None:
    """0 s of a clip at full speed is the moment the run began; its shift is the clock's all the same."""
    zero_s = time.monotonic()
    base = clock.time_base(zero_s=zero_s)
    assert base.utc_offset_s == pytest.approx(time.time(), abs=5)
    assert base.shift_from_s == pytest.approx(time.time() - time.monotonic(), abs=5)


@contextmanager
def chronyd(folder: Path, *settings: str) -> Iterator[int]:
    """Run a chronyd that leaves the clock alone; yield the port where it answers. Skips where it is missing."""
    program = shutil.which("chronyd") or shutil.which("chronyd", path="/usr/sbin")
    if program is None:
        pytest.skip("chronyd is not installed")
    folder.mkdir(mode=0o700)
    port = free_udp_port()
    lines = [*settings, f"cmdport {port}", "bindcmdaddress 127.0.0.1", f"pidfile {folder / 'pid'}"]
    config = folder / "chrony.conf"
    config.write_text("\n".join([*lines, f"bindcmdaddress {folder / 'sock'}"]))
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    command = [program, "-x", "-d", "-U", "-u", user, "-f", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_real_chronyd_is_asked(tmp_path: Path) -> None:
    """One with a time source has set the clock; one without, or with its own clock alone, has not."""
    ntp = free_udp_port()
    local = ["local stratum 8", f"port {ntp}", "bindaddress 127.0.0.1", "allow 127.0.0.1"]
    source = [f"server 127.0.0.1 port {ntp} iburst minpoll 0 maxpoll 0", "port 0"]
    with ExitStack() as stack:
        alone = stack.enter_context(chronyd(tmp_path / "alone", "port 0"))
        served = stack.enter_context(chronyd(tmp_path / "served", *source))
        own = stack.enter_context(chronyd(tmp_path / "own", *local))
        end_s, pause = time.monotonic() + HANGS_S, threading.Event()
        while not clock.chrony_synced(("127.0.0.1", served)):
            assert time.monotonic() < end_s, "chronyd did not find its source"
            pause.wait(0.1)
        assert not clock.chrony_synced(("127.0.0.1", own))
        assert not clock.chrony_synced(("127.0.0.1", alone))


@pytest.mark.parametrize("reply", [b"", b"x", b"\6\2" + bytes(200), bytes(2000)])
def test_an_answer_that_is_none_is_no_proof(reply: bytes) -> None:
    """Whatever else answers there, the clock does not count as set."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            _, client = server.recvfrom(2048)
            server.sendto(reply, client)

        thread = threading.Thread(target=serve)
        thread.start()
        assert not clock.chrony_synced(server.getsockname())
        thread.join(HANGS_S)


def test_who_never_answers_is_not_waited_for() -> None:
    """A chronyd that says nothing is given up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        assert not clock.chrony_synced(server.getsockname())


def test_nothing_else_goes_by_the_wall_clock() -> None:
    """No timeout, tracker or watchdog reads it: it may jump. Who does is listed, with the reason."""
    root = Path(agent.__file__).parent
    found = {
        str(path.relative_to(root)): lines
        for path in sorted(root.rglob("*.py"))
        if (lines := list(wall_clock_in(ast.parse(path.read_text()))))
    }
    assert set(found) == set(ALLOWED), {name: found.get(name) for name in set(found) ^ set(ALLOWED)}


def test_the_search_for_the_wall_clock_finds_it() -> None:
    """The ways to read it that the search knows."""
    ways = ["time.time()", "time.time_ns()", "datetime.datetime.now()", "datetime.utcnow()", "date.today()"]
    ways += [
        "from time import time",
        "from time import strftime as x",
        "time.clock_gettime(time.CLOCK_REALTIME)",
    ]
    assert all(list(wall_clock_in(ast.parse(way))) for way in ways)
    assert not list(wall_clock_in(ast.parse("time.monotonic(); today(); datetime.fromtimestamp(1)")))


def wall_clock_in(tree: ast.AST) -> Iterator[str]:
    """Yield where `tree` reads the wall clock."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if node.attr in WALL.get(name, ()):
                yield f"line {node.lineno}: {name}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in WALL:
            for name in (alias.name for alias in node.names):
                if name in WALL[node.module]:
                    yield f"line {node.lineno}: from {node.module} import {name}"
