"""Thousands of spoilt configurations: each is taken, or refused in one line that names a key and no secret."""

from __future__ import annotations

import copy
import datetime as dt
import random
import re
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from agent.config import Config
from agent.config.describe import example
from agent.config.load import load_config
from agent.errors import BadConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TREES, TEXTS = 2100, 1000
"""How many are spoilt as trees of keys, one fault each, and how many as text."""
LIMIT_S = 60.0
"""A load takes some milliseconds; this is a hang on any machine."""
SECRET = "hunter2"  # noqa: S105 - what must not be shown
URL = f"rtsp://admin:{SECRET}@cam/2"
STRANGE: list[Any] = [
    True, False, 0, -1, 1, 5, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"), "", " ", "x", "true", "5", "a/b", "+", "#", "$SYS", "\x07", "\0",
    "\u2028", "ü" * 40, "x" * 70_000, "-", "~", "../..", "\n", URL, f"mqtt://edge:{SECRET}@b", f"edge:{SECRET}@b",
    f"http://cam/?user=a&password={SECRET}", [],
    f"rtsp://admin:two {SECRET}@cam/2", f"rtsp://admin:{SECRET} /two@cam/2",
    [[]], [0], [1, "x"], ["a"], [URL], [[[0, 0], [1, 0], [1, 1]]],
    [[[0, 0], [1, 0], [9, 9]]], [{}], [{"name": "a"}], {}, {"a": 1}, {"a": {"b": URL}}, {"name": URL},
    dt.date(2020, 1, 1), dt.time(1, 2, 3),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),
]  # fmt: skip
PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\"|[^"])*")(?:\[\d+\])*"""
KEY_PATH = re.compile(
    r"config\.toml: (?:unknown key: )?"
    rf"({PART}(?:\.{PART})*)(?: \(.*\))?[:;]"
)
NO_CAMERA = "config.toml: Object missing required field `camera`"
Path_ = list[Any]


def base() -> dict[str, Any]:
    """Return the example with every key in force, two cameras and a login in a URL."""
    text = re.sub(r"(?m)^#(?=[\[\w])", "", example()).replace("tls = false", "tls = true")
    text = text.replace(
        "[[detect.zones]]", '[[detect.zones]]\nname = "a"\npolygon = [[0, 0], [1, 0], [1, 1]]'
    )
    return tomllib.loads(text.replace('"v4l2:/dev/video0"', f'"{URL}"'))


def places(tree: Any, path: Path_) -> list[Path_]:
    """Return the paths of everything in `tree`."""
    if isinstance(tree, dict):
        inside = [p for key, value in tree.items() for p in places(value, [*path, key])]
    elif isinstance(tree, list):
        inside = [p for i, value in enumerate(tree) for p in places(value, [*path, i])]
    else:
        inside = []
    return ([path] if path else []) + inside


def typo(key: str, dice: random.Random) -> str:
    """Return `key` spoilt: a letter more, less or other, another case, or something else altogether."""
    at = dice.randrange(len(key))
    letter = dice.choice(string.printable)
    return dice.choice(
        [
            key[:at] + key[at + 1 :],
            key[:at] + letter + key[at:],
            key[:at] + letter + key[at + 1 :],
            key.upper(),
            key.replace("_", "-"),
            "x" * dice.choice([1, 100, 5000]),
            URL,
            "",
            "ключ",
            "a.b",
            '"',
        ]
    )


def spoil(tree: dict[str, Any], dice: random.Random) -> str:
    """Change one thing in `tree`; return the table or key of the first level that it is in."""
    path = dice.choice(places(tree, []))
    holder: Any = tree
    for step in path[:-1]:
        holder = holder[step]
    last = path[-1]
    what = dice.random()
    if what < 0.5:
        holder[last] = dice.choice(STRANGE)
    elif what < 0.7 and isinstance(last, str):
        new = typo(last, dice)
        holder[new] = holder.pop(last)
        return new if len(path) == 1 else path[0]
    elif what < 0.8:
        del holder[last]
    elif what < 0.9:
        value = holder[last]
        holder[last] = dice.choice([[value], {"a": value}, [value, value], str(value), {"name": value}])
    elif isinstance(holder, list):
        holder.append(holder[last])
    else:
        holder[typo(last, dice)] = dice.choice(STRANGE)
        return "" if len(path) == 1 else path[0]
    return str(path[0])


def load(path: Path, text: bytes) -> str | None:
    """Return the line that loading `text` is refused with, None when it is taken; check what holds for all."""
    path.write_bytes(text)
    started_s = time.perf_counter()
    try:
        assert isinstance(load_config(path), Config)
        line = None
    except BadConfig as error:
        line = str(error)
        assert len(line.splitlines()) == 1, line
        assert len(line) < 500, line
        assert line.isprintable(), line
        assert SECRET not in line, line
    assert time.perf_counter() - started_s < LIMIT_S
    return line


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return config.toml in the working directory, private."""
    monkeypatch.chdir(tmp_path)
    path = Path("config.toml")
    path.touch(mode=0o600)
    return path


def test_one_fault_in_a_tree_names_its_key(path: Path) -> None:
    """Swapped types, other names, extremes: taken, or refused with a path that leads to what was spoilt."""
    dice, clean, refused = random.Random(3), base(), 0
    plain = tomli_w.dumps(clean).encode()
    assert load(path, plain) is None
    for _ in range(TREES):
        tree = copy.deepcopy(clean)
        table = spoil(tree, dice)
        line = load(path, tomli_w.dumps(tree).encode())
        if line is None or line.startswith((NO_CAMERA, "config.toml is not TOML: ")):
            continue
        refused += 1
        found = KEY_PATH.match(line)
        assert found, line
        first = re.split(r"[.\[]", found[1])[0]
        assert first == table or found[1].startswith('"') or table == "", (line, table)
    assert refused > TREES / 2


def bits(text: bytes, dice: random.Random) -> bytes:
    """Flip some bits."""
    spoilt = bytearray(text)
    for _ in range(dice.choice([1, 3, 30])):
        spoilt[dice.randrange(len(spoilt))] ^= 1 << dice.randrange(8)
    return bytes(spoilt)


def cut(text: bytes, dice: random.Random) -> bytes:
    """Cut the end off."""
    return text[: dice.randrange(len(text))]


def lines(text: bytes, dice: random.Random) -> bytes:
    """Put lines elsewhere, again, or away."""
    rows = text.split(b"\n")
    for _ in range(dice.choice([1, 5])):
        row = rows.pop(dice.randrange(len(rows)))
        for _ in range(dice.choice([0, 1, 2])):
            rows.insert(dice.randrange(len(rows)), row)
    return b"\n".join(rows)


def pieces(text: bytes, dice: random.Random) -> bytes:
    """Put in what TOML is made of."""
    made = [
        *(bytes([c]) for c in b"\"'[]{}=.,\\\0#-\xff\r\n"), b"[[", b'''"""''', b"'''", b"nan", b"1e999", b"0x",
        b"1979-05-27", "ü".encode(), b"[camera]\n", b"[" * 3000,
    ]  # fmt: skip
    for _ in range(dice.choice([1, 4])):
        at = dice.randrange(len(text))
        text = text[:at] + dice.choice(made) + text[at:]
    return text


def noise(text: bytes, dice: random.Random) -> bytes:
    """Return nothing of it."""
    alphabet = b'[]{}=".\n#abc01 ' if dice.random() < 0.5 else bytes(range(256))
    return bytes(dice.choices(alphabet, k=dice.choice([0, 1, 20, 2000])))


@pytest.mark.parametrize("how", [bits, cut, lines, pieces, noise])
def test_spoilt_text_is_told_in_one_line(how: Callable[[bytes, random.Random], bytes], path: Path) -> None:
    """Whatever the bytes are: where the TOML ends to be TOML, or a key."""
    dice, plain = random.Random(how.__name__), tomli_w.dumps(base()).encode()
    for _ in range(TEXTS // 5):
        line = load(path, how(plain, dice))
        if line is not None and not line.startswith((NO_CAMERA, "config.toml is not TOML: ")):
            assert KEY_PATH.match(line), line
