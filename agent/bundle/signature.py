"""Signatures of bundles, in minisign's format (https://jedisct1.github.io/minisign/): Ed25519 over a hash.

Everything here is pure. Signing and secret keys are in `calibration.signing`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import BadData
from agent.strict import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.errors import AgentError

UNTRUSTED, TRUSTED = b"untrusted comment: ", b"trusted comment: "
LEGACY, PREHASHED = b"Ed", b"ED"
"""Algorithms: Ed25519 of the file itself, as keys and old signatures say, or of its BLAKE2b-512."""
KEY_ID_BYTES, KEY_BYTES, SIGNATURE_BYTES = 8, 32, 64
MOST_BYTES = 16 << 10
"""Largest file of a key or signature; minisign's own comments end at 8 KiB."""
_SIGN = "sign the bundle again: edge-calibrate sign BUNDLE --key KEY"
_FETCH = "fetch bundle and signature again; whoever changed one of them can't sign it"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose signatures are trusted: an Ed25519 key and the number that tells which one made a signature."""

    key_id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The number as minisign prints it: hexadecimal, last byte first."""
        return key_name(self.key_id)

    @property
    def line(self) -> str:
        """The key in one line of 56 characters."""
        return base64.b64encode(LEGACY + self.key_id + self.key).decode()


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature file: one signature of the hash or, `legacy`, of the file; one of that and the comment."""

    key_id: bytes
    legacy: bool
    signature: bytes
    comment: bytes
    comment_signature: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed a manifest, by the name of the key, and what the comment says that was signed with it."""

    key: str
    comment: str


def key_name(key_id: bytes) -> str:
    """Return the number of a key as minisign prints it."""
    return key_id[::-1].hex().upper()


def prehash(manifest: bytes) -> bytes:
    """Return what is signed in place of `manifest`: its BLAKE2b-512."""
    return hashlib.blake2b(manifest).digest()


def verify_manifest(
    manifest: bytes, signature: bytes, keys: Sequence[PublicKey], *, where: str = "model.toml.minisig"
) -> Signed:
    """Return who of `keys` signed the bytes of `manifest`, by the content of the signature file.

    Raises BadData, in one line that begins with `where`, for anything but a good signature by one of `keys`.
    """
    found = parse_signature(signature, where=where)
    trusted = [key.key for key in keys if key.key_id == found.key_id]
    if not trusted:
        known = ", ".join(key.name for key in keys) or "none"
        fix = f"if it is yours, add its public key to [models] trusted_keys (now: {known})"
        raise BadData(f"{where}: made with a key that is not trusted", seen=key_name(found.key_id), fix=fix)
    message = manifest if found.legacy else prehash(manifest)
    good = [key for key in trusted if _verifies(key, found.signature, message)]
    if not good:
        raise BadData(f"{where}: it does not sign this model.toml", fix=_FETCH)
    if not any(_verifies(key, found.comment_signature, found.signature + found.comment) for key in good):
        raise BadData(f"{where}: the trusted comment is not the one that was signed", fix=_FETCH)
    return Signed(key_name(found.key_id), _comment(found.comment, where))


def parse_signature(raw: bytes, *, where: str) -> Signature:
    """Return the signature in the file's content `raw`; nothing of it is verified. Raises BadData."""
    lines = split(raw, where=where, fault=BadData, fix=_SIGN)
    starts = UNTRUSTED, b"", TRUSTED, b""
    if len(lines) != 4 or not all(map(bytes.startswith, lines, starts)):
        seen = f"{len(lines)} lines" if len(lines) != 4 else "other lines"
        raise BadData(f"{where} is not a signature of minisign's four lines", seen=seen, fix=_SIGN)
    packed = unpack(lines[1], 2 + KEY_ID_BYTES + SIGNATURE_BYTES, f"{where}, line 2", BadData, _SIGN)
    algorithm, key_id, signature = packed[:2], packed[2:10], packed[10:]
    if algorithm not in (LEGACY, PREHASHED):
        raise BadData(f"{where}: unknown algorithm", seen=repr(algorithm)[1:], fix=_SIGN)
    comment_signature = unpack(lines[3], SIGNATURE_BYTES, f"{where}, line 4", BadData, _SIGN)
    comment = lines[2].removeprefix(TRUSTED)
    return Signature(key_id, algorithm == LEGACY, signature, comment, comment_signature)


def parse_public_key(raw: bytes, *, where: str, fault: type[AgentError] = BadData) -> PublicKey:
    """Return the key in `raw`: a public key file of minisign, or its second line alone. Raises `fault`."""
    fix = "give a public key as minisign or edge-calibrate keygen writes it: 56 characters, RW..."
    lines = split(raw, where=where, fault=fault, fix=fix)
    if len(lines) == 2 and lines[0].startswith(UNTRUSTED):
        lines = lines[1:]
    if len(lines) != 1:
        raise fault(f"{where} is not a public key", seen=f"{len(lines)} lines", fix=fix)
    packed = unpack(lines[0], 2 + KEY_ID_BYTES + KEY_BYTES, where, fault, fix)
    if packed[:2] != LEGACY:
        raise fault(f"{where}: unknown kind of key", seen=repr(packed[:2])[1:], fix=fix)
    return PublicKey(packed[2:10], packed[10:])


def split(raw: bytes, *, where: str, fault: type[AgentError], fix: str) -> list[bytes]:
    """Return the lines of a small file, with or without a last line end. Raises `fault` if it is not small."""
    if len(raw) > MOST_BYTES:
        raise fault(f"{where}: size in bytes", seen=f"more than {MOST_BYTES}", fix=fix)
    return [line.removesuffix(b"\r") for line in raw.removesuffix(b"\n").split(b"\n")]


def unpack(line: bytes, size: int, where: str, fault: type[AgentError], fix: str) -> bytes:
    """Return the `size` bytes that `line` is the base64 of. Raises `fault`."""
    try:
        packed = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise fault(f"{where} is not base64", seen=shown(line), fix=fix) from None
    if len(packed) != size:
        raise fault(f"{where}: size in bytes", seen=f"{len(packed)}, not {size}", fix=fix)
    return packed


def shown(line: bytes) -> str:
    """Return the start of `line` for a message."""
    return repr(shorten(line[:80].decode(errors="replace"), 40))


def _verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # slow to import: unsigned bundles need none of it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _comment(raw: bytes, where: str) -> str:
    """Return the comment for people; it may not move their cursor. minisign's own has tabs. Raises BadData."""
    try:
        text = raw.decode().replace("\t", " ")
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise BadData(f"{where}: the trusted comment is not printable text", seen=shown(raw), fix=_SIGN)
    return text
