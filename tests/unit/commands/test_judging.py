"""Which messages are commands, on a clock of the test's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.commands.judging import AHEAD_S, MAX_BYTES, Reason, Rejected, answer_topic, judge
from agent.transport import Received
from agent.wire import Command

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NAMES = frozenset({"status", "camera.enable"})


def expires(ahead_s: float = 60.0) -> str:
    """Return a time that far from NOW."""
    return (NOW + timedelta(seconds=ahead_s)).isoformat()


def payload(**changes: Any) -> bytes:
    """Return a good command with `changes`; None leaves a field out."""
    fields = {"schema": 1, "id": "c1", "expires": expires(), "op": "status", "args": {}, **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


def verdict(
    data: bytes, *, retained: bool = False, synced: bool = True, seen: tuple[str, ...] = ()
) -> Command | Rejected:
    """Judge `data` at NOW."""
    request = Received("edge/d/command", data, retained)
    return judge(request, names=NAMES, seen=seen, utc_s=NOW.timestamp(), synced=synced)


def test_a_good_command_is_taken() -> None:
    """With all it says; without `args` they are empty; a time zone is a way to write the same moment."""
    command = verdict(payload(op="camera.enable", args={"camera": "yard"}))
    assert isinstance(command, Command)
    assert (command.id, command.op, command.args) == ("c1", "camera.enable", {"camera": "yard"})
    bare = verdict(payload(args=None, expires="2026-11-22T13:00:30.5+01:00"))
    assert isinstance(bare, Command)
    assert bare.args == {}


DEEP = b'{"schema":1,"id":"c1","expires":"2026-11-22T12:00:30Z","op":"status","args":{"a":' + b"[" * 8000
BAD = {
    "empty": b"",
    "no JSON": b"reboot",
    "an array": b"[]",
    "invalid UTF-8": b'{"id":"\xff"}',
    "UTF-16": payload().decode().encode("utf-16"),
    "a NUL": payload() + b"\0",
    "deep": DEEP,
    "deep and closed": DEEP + b"]" * 8000 + b"}}",
    "NaN": payload().replace(b"{}", b'{"x": NaN}'),
    "infinite": payload().replace(b"{}", b'{"x": 1e999}'),
    "a lone surrogate": payload(args={"x": 1}).replace(b"1}", b'"\\ud800"}'),
    "a number as id": payload(id=7),
    "a null id": payload().replace(b'"c1"', b"null"),
    "an empty id": payload(id=""),
    "a long id": payload(id="x" * 65),
    "an odd id": payload(id="a b"),
    "no id": payload(id=None),
    "no expiry": payload(expires=None),
    "a number as expiry": payload(expires=1.9e9),
    "an expiry of no zone": payload(expires="2026-11-22T12:00:30"),
    "another schema": payload(schema=2),
    "no op": payload(op=None),
    "an empty op": payload(op=""),
    "args a list": payload(args=[1]),
    "an unknown field": payload(force=True),
    "a key twice": payload().replace(b'"op"', b'"op": "camera.enable", "op"'),
    "a key twice, deep": payload().replace(b"{}", b'{"x": {"y": 1, "y": 2}}'),
    "a day and more ahead": payload(expires=expires(AHEAD_S + 1)),
    "a huge number": payload(args={"n": 1}).replace(b"1}", b"1" * 9000 + b"}"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_command_is_malformed(name: str) -> None:
    """Each is rejected in words, never a fault of ours."""
    rejected = verdict(BAD[name])
    assert isinstance(rejected, Rejected), name
    assert rejected.reason == "malformed"
    assert rejected.why


def test_the_other_reasons() -> None:
    """Retained, too large, expired, replayed and unknown ones; a replay is told before its expiry."""
    whys = {
        "retained": verdict(payload(), retained=True),
        "oversize": verdict(payload(args={"x": "y" * MAX_BYTES})),
        "expired": verdict(payload(expires=expires(-1))),
        "replayed": verdict(payload(expires=expires(-1)), seen=("c1",)),
        "unknown": verdict(payload(op="model.adopt")),
    }
    for reason, rejected in whys.items():
        assert isinstance(rejected, Rejected)
        assert rejected.reason == reason
        assert reason in get_args(Reason)


def test_an_unset_clock_judges_no_expiry() -> None:
    """A year behind or ahead: the command is done."""
    for ahead_s in (-3e7, 3e7):
        assert isinstance(verdict(payload(expires=expires(ahead_s)), synced=False), Command)


@given(
    st.binary(max_size=200)
    | st.text().map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_comes_is_judged(data: bytes) -> None:
    """Nothing raises, and what is no command is none."""
    assert isinstance(verdict(data), Rejected)


@given(st.datetimes(timezones=st.timezones()))
def test_any_moment_can_be_judged(moment: datetime) -> None:
    """From year 1 to 9999, in any time zone."""
    verdict(payload(expires=moment.isoformat()))


def to(topic: str | None) -> str | None:
    """Return where an answer with the response topic `topic` goes."""
    request = Received("edge/d/command", b"", response_topic=topic)
    return answer_topic(request, base="edge/d", reserved="homeassistant")


def test_where_answers_go() -> None:
    """To the response topic, else to command/result; never where a device or Home Assistant listens."""
    assert to(None) == to("edge/d/command/result") == "edge/d/command/result"
    for good in ("edge/d/command/result/me", "answers/me", "edges/x"):
        assert to(good) == good
    for bad in (
        "",
        "answers/#",
        "answers/+",
        "$SYS/x",
        "a\0b",
        "x" * 600,
        "edge/d/command",
        "edge/d/status",
        "edge/d",
        "edge",
        "edge/other/command",
        "edge/d/command/results",
        "homeassistant/device/d/config",
    ):
        assert to(bad) is None, bad
