"""The log: readable, without credentials, without floods."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import socket
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import log
from agent.errors import ServiceAway
from agent.journald import encode, is_journal
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger its handlers and level back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_warning_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without -v a person sees the program, the level and the text."""
    log.setup()
    logging.getLogger("agent.mqtt.transport").warning("the broker refused version %d", 5)
    logging.getLogger("agent.mqtt.transport").info("not shown")
    assert capsys.readouterr().err == "edge-agent: warning: the broker refused version 5\n"


@pytest.mark.parametrize(
    ("verbose", "shown"), [(1, ["info"]), (2, ["info", "debug"]), (5, ["info", "debug"])]
)
def test_verbose_adds_time_and_logger(
    verbose: int, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With -v there are more levels, and each line says when and where."""
    log.setup(verbose)
    logging.getLogger("agent.mqtt.transport").info("connected")
    logging.getLogger("agent.mqtt.transport").debug("connected with version 5")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("agent.mqtt.transport: ")[1].split(":")[0] for line in lines] == shown
    assert lines[0][:4].isdigit()


def test_credentials_are_redacted_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A password shows neither in the message, nor in its arguments, nor in a traceback."""
    log.setup()
    logger = logging.getLogger("agent.capture")
    logger.warning("rtsp://me:hunter2@camera/1 is away")
    logger.warning("%s is away", "rtsp://me:hunter2@camera/2")
    try:
        raise OSError("rtsp://me:hunter2@camera/3")
    except OSError:
        logger.exception("failed")
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert shown.count("rtsp://***@camera/") >= 3


def test_a_flood_is_held_back_and_counted() -> None:
    """The same text goes out once every ten seconds, then with the number of those held back."""
    now_s = 0.0
    calm = log.Calm(repeat_s=10.0, clock=lambda: now_s)

    def offer(text: str) -> str | None:
        record = logging.LogRecord("agent", logging.WARNING, "", 0, "%s", (text,), None)
        return log.told(record) if calm.filter(record) else None

    assert offer("camera away") == "camera away"
    assert [offer("camera away") for _ in range(3)] == [None] * 3
    assert offer("disk full") == "disk full"
    now_s = 10.0
    assert offer("camera away") == "camera away (and 3 times more)"
    now_s = 20.0
    assert offer("camera away") == "camera away"


def test_the_memory_of_floods_is_bounded() -> None:
    """Ten thousand different messages do not stay in memory."""
    calm = log.Calm()
    for n in range(10_000):
        assert calm.filter(logging.LogRecord("agent", logging.WARNING, "", 0, f"frame {n}", (), None))
    assert len(calm._seen) <= 256


def record_of(template: str, *args: object, name: str = "agent.camera", **more: object) -> logging.LogRecord:
    """Return the record of a warning."""
    return logging.LogRecord(name, logging.WARNING, "camera.py", 7, template, args, None, **more)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With time, level, logger, message and what it is about; several lines of text are one line of JSON."""
    log.setup(1, "json")
    logging.getLogger("agent.camera").warning("camera %s: %s\n%d frames", "yard", "away", 3)
    logging.getLogger("agent.mqtt.transport").info("connected")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert re.fullmatch("[0-9a-f]{32}", first.pop("message_id"))
    assert first == {
        "level": "warning",
        "logger": "agent.camera",
        "message": "camera yard: away\n3 frames",
        "camera": "yard",
    }
    assert second.keys() == {"time", "level", "logger", "message", "message_id"}


@pytest.mark.parametrize(
    ("template", "args", "found"),
    [
        ("camera %s: down", ("yard",), {"camera": "yard"}),
        ("%d %% of camera %s, event %s ended", (50, "yard", "e-1"), {"camera": "yard", "event_id": "e-1"}),
        ("%.1f s and %-5s: camera %r", (1.0, "x", "yard"), {"camera": "yard"}),
        ("cameras %s", ("yard",), {}),
        ("the camera:%s", ("yard",), {}),
        ("camera", (), {}),
        ("camera %s of %s", ("yard",), {"camera": "yard"}),  # a fault of ours, still told
        ("%(camera)s", ({"camera": "yard"},), {}),
    ],
)
def test_what_a_message_is_about_is_read_off_its_text(
    template: str, args: tuple[object, ...], found: dict[str, str]
) -> None:
    """The argument behind the words camera and event."""
    seen = log.fields(record_of(template, *args))
    assert re.fullmatch("[0-9a-f]{32}", seen.pop("message_id"))
    assert seen == found


def test_the_id_of_a_message_is_that_of_its_kind() -> None:
    """The same for all arguments and in every run, another for another text or logger."""
    ids = [
        log.fields(record)["message_id"]
        for record in (
            record_of("camera %s: down", "yard"),
            record_of("camera %s: down", "door"),
            record_of("camera %s: up", "yard"),
            record_of("camera %s: down", "yard", name="agent.watch"),
        )
    ]
    assert ids[0] == ids[1] == "e518c909dd0d50daade5fe57bc9d8dde"
    assert len(set(ids)) == 3


def decoded(datagram: bytes) -> dict[str, str]:
    """Read an entry as the journal does (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""
    entry, rest = {}, datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        assert re.fullmatch("[A-Z][A-Z0-9_]{0,63}", name.decode())
        entry[name.decode()] = value.decode()
    return entry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """Be a journal at tmp_path/socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(HANGS_S)
        yield listener


def test_the_journal_gets_fields(journal: socket.socket, tmp_path: Path) -> None:
    """Message, priority of syslog, kind, camera, and where in the code; a traceback's lines stay one value."""
    handler = log.ToJournal(tmp_path / "socket")
    handler.handle(record_of("camera %s: %s", "yard", "rtsp://me:hunter2@cam/1 is away\nfor long"))
    entry = decoded(journal.recv(1 << 20))
    assert re.fullmatch("[0-9a-f]{32}", entry.pop("MESSAGE_ID"))
    assert entry == {
        "MESSAGE": "camera yard: rtsp://***@cam/1 is away\nfor long",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "edge-agent",
        "LOGGER": "agent.camera",
        "CODE_FILE": "camera.py",
        "CODE_LINE": "7",
        "CODE_FUNC": "",
        "CAMERA": "yard",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, "2"),
        (logging.ERROR, "3"),
        (logging.WARNING, "4"),
        (logging.INFO, "6"),
        (logging.DEBUG, "7"),
    ],
)
def test_levels_are_those_of_syslog(
    journal: socket.socket, tmp_path: Path, level: int, priority: str
) -> None:
    """`journalctl -p warning` works."""
    record = record_of("x")
    record.levelno = level
    log.ToJournal(tmp_path / "socket").handle(record)
    assert decoded(journal.recv(1 << 20))["PRIORITY"] == priority


@given(st.text(max_size=50), st.sampled_from(["", "\n", "\0", "\ud800", "x" * 100_000]))
def test_any_text_is_an_entry(text: str, more: str) -> None:
    """Whatever is in it, the entry can be read, and is small enough for one datagram."""
    datagram = encode({"MESSAGE": text + more, "PRIORITY": "4"})
    assert len(datagram) < 40_000
    if not more:
        assert decoded(datagram)["MESSAGE"] == text.encode(errors="replace").decode()
    assert datagram.endswith(b"PRIORITY=4\n")


def test_without_a_journal_it_is_told_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is lost where nobody listens."""
    log.ToJournal(tmp_path / "nobody").handle(record_of("camera %s: down", "yard"))
    assert capsys.readouterr().err == "edge-agent: warning: camera yard: down\n"


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    """Only when standard error itself leads there; a redirected one does not."""
    with (tmp_path / "stderr").open("w") as stream:
        seen = os.fstat(stream.fileno())
        assert is_journal({"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}, stream)
        assert not is_journal({"JOURNAL_STREAM": f"{seen.st_dev}:1"}, stream)
        assert not is_journal({}, stream)
    assert not is_journal({"JOURNAL_STREAM": "1:1"}, stream)


AGENT = Path(log.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
SECRETS = (
    "rtsp://me:hunter2@cam/1",
    "http://me:hun ter2@cam/1",
    "http://cam/video?user=me&password=hunter2",
    "rtsp://cam/user=me_password=hunter2_channel=1.sdp",
    "mqtts://me:hunter2@broker:8883 refused\nmqtt://me:hunter2@other",
    OSError(5, "rtsp://me:hunter2@cam/1"),
    ServiceAway("no stream", seen="rtsp://me:hunter2@cam/1", fix="try rtsp://me:hunter2@cam/2"),
)


@cache
def log_calls() -> list[tuple[str, str, ast.Call]]:
    """Return (place, logger, call) for every call in the agent that logs."""
    found = []
    for path in sorted(AGENT.rglob("*.py")):
        name = "agent." + ".".join(path.relative_to(AGENT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
            ):
                on = ast.unparse(node.func.value)
                if on in {"log", "_log", "logger"} or "getLogger" in on:
                    found.append((f"{path.name}:{node.lineno}", name, node))
    return found


def test_every_message_has_a_text_of_its_own() -> None:
    """A constant, which tells its kind; what varies are arguments."""
    calls = log_calls()
    assert len(calls) > 50
    for place, _, call in calls:
        assert isinstance(call.args[0], ast.Constant), place


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_no_message_of_the_agent_tells_a_secret(
    secret: object, journal: socket.socket, tmp_path: Path
) -> None:
    """Each message there is, with a login in each of its arguments, and in a traceback, in each form."""
    to_journal = log.ToJournal(tmp_path / "socket")
    try:
        raise RuntimeError(str(secret))
    except RuntimeError as fault:
        info = (RuntimeError, fault, fault.__traceback__)
    for place, name, call in log_calls():
        template = ast.literal_eval(call.args[0])
        places = re.findall(r"%[-#0 +]*\d*(?:\.\d+)?([a-zA-Z])", template.replace("%%", ""))
        args = tuple(secret if kind in "sr" else 1 for kind in places)
        assert len(args) == len(call.args) - 1, place
        record = logging.LogRecord(name, logging.WARNING, place, 1, template, args, info)
        to_journal.handle(record)
        told = [
            log.Plain().format(record),
            log.Json().format(record),
            journal.recv(1 << 20).decode(errors="replace"),
        ]
        assert "ter2" not in "".join(told), place
