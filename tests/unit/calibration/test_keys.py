"""Keys of bundles: what is written is read back, and only with its password."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, BadData, NotPermitted, UsageError
from calibration.keys import Cost, SecretKey, new_key, parse_secret_key, secret_key_file

KEY = SecretKey(b"\1" * 8, bytes(range(32)))
CHEAP = Cost(32_768, 1 << 20)
LOCKED, OPEN = secret_key_file(KEY, "secret", CHEAP), secret_key_file(KEY, None)


def never() -> str:
    """Stand for a question that must not be asked."""
    raise AssertionError


def test_a_key_comes_back() -> None:
    """With its password, or without one; two files of one key under one password differ."""
    assert parse_secret_key(LOCKED, lambda: "secret", where="k") == KEY
    assert parse_secret_key(OPEN, never, where="k") == KEY
    assert secret_key_file(KEY, "secret", CHEAP) != LOCKED
    assert new_key() != new_key()
    assert "seed" not in repr(KEY)


def test_a_wrong_password_is_told() -> None:
    """Exit code 77; no password at all is a mistake of the command line."""
    with pytest.raises(NotPermitted, match="k: wrong password"):
        parse_secret_key(LOCKED, lambda: "Secret", where="k")
    with pytest.raises(UsageError, match="empty"):
        parse_secret_key(LOCKED, lambda: "", where="k")


@pytest.mark.parametrize(
    ("operations", "memory_bytes", "expected"),
    [
        (33_554_432, 1 << 30, (1 << 20, 8, 1)),
        (524_288, 16 << 20, (1 << 14, 8, 1)),
        (1, 1 << 30, (1 << 10, 8, 1)),
    ],
)
def test_the_cost_is_split_as_libsodium_does(
    operations: int, memory_bytes: int, expected: tuple[int, int, int]
) -> None:
    """Its limits "sensitive" and "interactive", and less than it takes."""
    assert Cost(operations, memory_bytes).scrypt() == expected


def changed(raw: bytes, at: int, put: bytes) -> bytes:
    """Return a key file with other bytes at `at` of what it packs."""
    first, line, _ = raw.split(b"\n")
    packed = bytearray(base64.b64decode(line))
    packed[at : at + len(put)] = put
    return b"\n".join([first, base64.b64encode(packed), b""])


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", "1 lines"),
        (OPEN * 2, "4 lines"),
        (OPEN[:-20], "base64|size in bytes"),
        (changed(OPEN, 0, b"XX"), "unknown kind"),
        (changed(OPEN, 2, b"XX"), "unknown kind"),
        (changed(OPEN, 70, b"XX"), "wrong checksum"),
        (changed(changed(OPEN, 70, b"XX"), 126, bytes(32)), "halves do not belong together"),
        (changed(LOCKED, 38, b"\xff" * 8), "costs too much"),
        (changed(LOCKED, 46, b"\xff" * 8), "costs too much"),
    ],
)
def test_a_file_that_is_no_key_is_told(raw: bytes, line: str) -> None:
    """Cut off, of another kind, damaged, or made to eat all memory."""
    with pytest.raises(BadData, match=line):
        parse_secret_key(raw, never, where="k")


@given(st.binary(max_size=300), st.integers(0, len(OPEN)))
def test_any_bytes_are_a_fault_of_ours(junk: bytes, at: int) -> None:
    """Whatever lies there, and whatever is put into a good file."""
    with contextlib.suppress(AgentError):
        parse_secret_key(junk, never, where="k")
    with contextlib.suppress(AgentError):
        assert parse_secret_key(OPEN[:at] + junk + OPEN[at:], never, where="k") == KEY
