"""Signatures: what is signed is what loads, and every flaw is one line that tells it from the others."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bundle.signature import (
    MOST_BYTES,
    PublicKey,
    parse_public_key,
    parse_signature,
    prehash,
    verify_manifest,
)
from agent.errors import BadConfig, BadData
from calibration.keys import SecretKey, new_key, public_key_file
from calibration.signing import sign

KEY = SecretKey(b"\1" * 8, bytes(range(32)))
MANIFEST = b'name = "test"\n'
COMMENT = "bundle test version 3"
SIGNATURE = sign(MANIFEST, KEY, COMMENT)
LINES = SIGNATURE.split(b"\n")

# Made by minisign 0.11 of the file "hi\n" with `-G -W` and `-S`, `-S -l`; it takes no part in the tests otherwise.
MINISIGN_KEY = b"""untrusted comment: minisign public key 5FC5C31651E1B4C1
RWTBtOFRFsPFX/jNYxnHypDLBqYk2wrh5inSZwdVT2mdQ37JX2DCEE41
"""
MINISIGN_HASHED = b"""untrusted comment: signature from minisign secret key
RUTBtOFRFsPFXwzELIhGDal5YGUeLHCyzRn7vDmAA1Hs5S7skEf1N1768iq/dSP36ocfk1R+zz9F73G3jGZMs4uJF24F3dB8TA4=
trusted comment: hello w
TeWRtZobkWABtU0yIzLVmWP0TNl840Qwe6EJB97MjD/YKr5qXjSY4+D6NRyepWE0oW4+jlvpnQ1DDjxAE0MEDw==
"""


def fault(signature: bytes, manifest: bytes = MANIFEST, keys: tuple[PublicKey, ...] = (KEY.public,)) -> str:
    """Return the one line that `signature` is refused with."""
    with pytest.raises(BadData) as error:
        verify_manifest(manifest, signature, keys)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_line(number: int, line: bytes) -> bytes:
    """Return SIGNATURE with another line `number`, from 1."""
    return b"\n".join([*LINES[: number - 1], line, *LINES[number:]])


def flipped(number: int, byte: int) -> bytes:
    """Return SIGNATURE with one bit of what line `number` packs turned."""
    packed = bytearray(base64.b64decode(LINES[number - 1]))
    packed[byte] ^= 1
    return with_line(number, base64.b64encode(packed))


def test_what_was_signed_is_accepted() -> None:
    """The comment and the key's name come back; other trusted keys and CRLF line ends do no harm."""
    signed = verify_manifest(MANIFEST, SIGNATURE, [new_key().public, KEY.public])
    assert (signed.comment, signed.key) == (COMMENT, "01" * 8)
    assert verify_manifest(MANIFEST, SIGNATURE.replace(b"\n", b"\r\n"), [KEY.public]) == signed
    assert verify_manifest(MANIFEST, SIGNATURE.removesuffix(b"\n"), [KEY.public]) == signed


def test_a_signature_of_the_minisign_program_is_accepted() -> None:
    """Key and signature as minisign 0.11 wrote them."""
    key = parse_public_key(MINISIGN_KEY, where="key")
    assert key.name == "5FC5C31651E1B4C1"
    assert verify_manifest(b"hi\n", MINISIGN_HASHED, [key]).comment == "hello w"


def test_an_old_signature_of_the_bytes_themselves_is_accepted() -> None:
    """Versions of minisign before 0.6, and `minisign -S -l`, sign the file and not its hash."""
    signature = KEY.sign(MANIFEST)
    lines = LINES[0], base64.b64encode(b"Ed" + KEY.key_id + signature), b"trusted comment: old"
    raw = b"\n".join([*lines, base64.b64encode(KEY.sign(signature + b"old")), b""])
    assert verify_manifest(MANIFEST, raw, [KEY.public]).comment == "old"
    assert "it does not sign" in fault(raw, prehash(MANIFEST))


def test_another_manifest_is_refused() -> None:
    """One more byte, or the hash in place of the file."""
    assert "it does not sign this model.toml" in fault(SIGNATURE, MANIFEST + b"#")
    assert "it does not sign this model.toml" in fault(SIGNATURE, prehash(MANIFEST))


def test_another_key_is_refused() -> None:
    """A key with another number is not known; one with the same number and other bytes does not fit."""
    other = new_key().public
    assert f"not trusted: {'01' * 8}; if it is yours, add" in fault(SIGNATURE, keys=(other,))
    assert f"(now: {other.name})" in fault(SIGNATURE, keys=(other,))
    assert "(now: none)" in fault(SIGNATURE, keys=())
    assert "it does not sign" in fault(SIGNATURE, keys=(PublicKey(KEY.key_id, other.key),))
    twins = (PublicKey(KEY.key_id, other.key), KEY.public)
    assert verify_manifest(MANIFEST, SIGNATURE, twins).comment == COMMENT


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", "four lines: 1 lines"),
        (SIGNATURE[:-60], "line 4"),
        (b"\n".join(LINES[:3]), "four lines: 3 lines"),
        (SIGNATURE + b"more\n", "four lines: 5 lines"),
        (SIGNATURE + b"\n", "four lines: 5 lines"),
        (SIGNATURE * 200, f"more than {MOST_BYTES}"),
        (with_line(1, b"comment: x"), "four lines: other lines"),
        (with_line(2, b"not base64!"), "line 2 is not base64: 'not base64!'"),
        (with_line(2, base64.b64encode(b"ED" + bytes(71))), "line 2: size in bytes: 73, not 74"),
        (with_line(2, base64.b64encode(b"EX" + bytes(72))), "unknown algorithm: 'EX'"),
        (with_line(3, b"trusted comment: bundle test version 4"), "trusted comment is not the one"),
        (with_line(4, b"AAAA"), "line 4: size in bytes: 3, not 64"),
        (flipped(2, 3), "not trusted"),
        (flipped(2, 20), "it does not sign"),
        (flipped(4, 20), "trusted comment is not the one"),
    ],
)
def test_a_flaw_in_the_file_is_named(raw: bytes, line: str) -> None:
    """Cut off, more than there should be, tampered with: each says what it is."""
    assert line in fault(raw)


@pytest.mark.parametrize("comment", ["\x1b[2J", "a\x00", "ok\u202e"])
def test_a_comment_that_would_move_the_cursor_is_refused(comment: str) -> None:
    """Whoever signs it, it is not shown; minisign's own tabs are."""
    assert "not printable" in fault(sign(MANIFEST, KEY, comment))
    signed = verify_manifest(MANIFEST, sign(MANIFEST, KEY, "timestamp:1\tfile:m\thashed"), [KEY.public])
    assert signed.comment == "timestamp:1 file:m hashed"


@given(st.binary(max_size=400))
def test_any_bytes_are_one_line(raw: bytes) -> None:
    """Whatever lies there, it is refused as bad data and nothing else."""
    for parse in (parse_signature, parse_public_key):
        with pytest.raises(BadData):
            parse(raw, where="x")


@given(st.integers(0, len(SIGNATURE) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_any_change_is_refused_or_changes_nothing_signed(at: int, put: bytes, drop: int) -> None:
    """Bytes put in or taken out anywhere: refused, or only the line that nobody signs is another one."""
    raw = SIGNATURE[:at] + put + SIGNATURE[at + drop :]
    try:
        signed = verify_manifest(MANIFEST, raw, [KEY.public])
    except BadData:
        return
    assert (signed.comment, signed.key) == (COMMENT, KEY.public.name)


def test_a_public_key_is_a_file_or_its_line() -> None:
    """As minisign writes it, or the second line alone, as in the configuration."""
    assert parse_public_key(public_key_file(KEY.public), where="key") == KEY.public
    assert parse_public_key(KEY.public.line.encode(), where="key") == KEY.public
    for raw in (b"", b"RW", SIGNATURE, MINISIGN_KEY * 2, b"\xff", KEY.public.line[:-4].encode()):
        with pytest.raises(BadConfig, match=r"^key"):
            parse_public_key(raw, where="key", fault=BadConfig)
    wrong = base64.b64encode(b"Xd" + bytes(40))
    with pytest.raises(BadData, match="unknown kind of key: 'Xd'"):
        parse_public_key(wrong, where="key")
