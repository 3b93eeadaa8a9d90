"""Keys that sign bundles, in minisign's files: the secret one under a password, or as it is."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.bundle.signature import (
    KEY_BYTES,
    KEY_ID_BYTES,
    LEGACY,
    UNTRUSTED,
    PublicKey,
    split,
    unpack,
)
from agent.errors import BadData, IOFault, NotPermitted, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_SCRYPT, _NONE, _BLAKE2B = b"Sc", b"\0\0", b"B2"
"""Names in the file: how the password becomes a key, and the checksum."""
_SALT_BYTES, _SUM_BYTES = 32, 32
_SEALED_BYTES = KEY_ID_BYTES + 2 * KEY_BYTES + _SUM_BYTES
_FILE_BYTES = 6 + _SALT_BYTES + 16 + _SEALED_BYTES
_MOST_OPERATIONS, _MOST_MEMORY_BYTES = 1 << 26, 1 << 30
_FIX = "give the secret key file that minisign or edge-calibrate keygen wrote"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a guess of a password costs, in libsodium's terms: operations and bytes of memory."""

    operations: int = 33_554_432
    memory_bytes: int = 1 << 30

    def scrypt(self) -> tuple[int, int, int]:
        """Return n, r and p of scrypt (RFC 7914), as libsodium's crypto_pwhash_scryptsalsa208sha256 picks them."""
        operations, r = max(self.operations, 32_768), 8
        by_operations = operations < self.memory_bytes // 32
        most = operations // (r * 4) if by_operations else self.memory_bytes // (r * 128)
        n = 1 << max(1, most.bit_length() - 1)
        p = 1 if by_operations else min(operations // 4 // n, 0x3FFFFFFF) // r
        return n, r, max(p, 1)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """An Ed25519 key (`seed`, 32 bytes) and the number that goes with it into signatures."""

    key_id: bytes
    seed: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key to give away."""
        return PublicKey(self.key_id, self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`, 64 bytes."""
        return self._private.sign(message)

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def new_key() -> SecretKey:
    """Return a key that nobody has."""
    return SecretKey(os.urandom(KEY_ID_BYTES), os.urandom(KEY_BYTES))


def public_key_file(key: PublicKey) -> bytes:
    """Return the content of the file of `key`."""
    return UNTRUSTED + f"minisign public key {key.name}\n{key.line}\n".encode()


def secret_key_file(key: SecretKey, password: str | None, cost: Cost = Cost()) -> bytes:
    """Return the content of the file of `key`, encrypted if there is a `password`. Raises IOFault: no memory."""
    public = key.public
    head = LEGACY + (_NONE if password is None else _SCRYPT) + _BLAKE2B
    opened = key.key_id + key.seed + public.key
    opened += _checksum(opened)
    salt, limits = bytes(_SALT_BYTES), bytes(16)
    if password is not None:
        salt = os.urandom(_SALT_BYTES)
        limits = cost.operations.to_bytes(8, "little") + cost.memory_bytes.to_bytes(8, "little")
        opened = _mask(opened, password, salt, cost)
    kind = "secret key, not encrypted" if password is None else "encrypted secret key"
    return (
        UNTRUSTED
        + f"minisign {kind} {public.name}\n".encode()
        + b64encode(head + salt + limits + opened)
        + b"\n"
    )


def parse_secret_key(raw: bytes, password: Callable[[], str], *, where: str) -> SecretKey:
    """Return the key in a file's content `raw`; `password` is asked if it is encrypted.

    Raises BadData, NotPermitted for a wrong password, IOFault without the memory that the password needs.
    """
    lines = split(raw, where=where, fault=BadData, fix=_FIX)
    if len(lines) != 2 or not lines[0].startswith(UNTRUSTED):
        raise BadData(f"{where} is not a secret key", seen=f"{len(lines)} lines", fix=_FIX)
    packed = unpack(lines[1], _FILE_BYTES, where, BadData, _FIX)
    kind, kdf, checksum = packed[:2], packed[2:4], packed[4:6]
    if kind != LEGACY or kdf not in (_SCRYPT, _NONE) or checksum != _BLAKE2B:
        raise BadData(f"{where}: unknown kind of key", seen=repr(packed[:6])[1:], fix=_FIX)
    salt, rest = packed[6 : 6 + _SALT_BYTES], packed[6 + _SALT_BYTES :]
    opened = rest[16:]
    if kdf == _SCRYPT:
        cost = Cost(int.from_bytes(rest[:8], "little"), int.from_bytes(rest[8:16], "little"))
        if cost.operations > _MOST_OPERATIONS or cost.memory_bytes > _MOST_MEMORY_BYTES:
            seen = f"{cost.operations} operations, {cost.memory_bytes} bytes"
            raise BadData(f"{where}: its password costs too much", seen=seen, fix=_FIX)
        opened = _mask(opened, password(), salt, cost)
    return _opened(opened, where, encrypted=kdf == _SCRYPT)


def _opened(opened: bytes, where: str, *, encrypted: bool) -> SecretKey:
    """Return the key in the decrypted part of a file, whose checksum minisign leaves empty without a password."""
    content, checksum = opened[:-_SUM_BYTES], opened[-_SUM_BYTES:]
    blank = not encrypted and not any(checksum)
    if not blank and not hmac.compare_digest(checksum, _checksum(content)):
        if encrypted:
            raise NotPermitted(f"{where}: wrong password", fix="give the one it was made with")
        raise BadData(f"{where}: wrong checksum", fix="the file is damaged: take its copy")
    key = SecretKey(content[:KEY_ID_BYTES], content[KEY_ID_BYTES:-KEY_BYTES])
    if key.public.key != content[-KEY_BYTES:]:
        raise BadData(f"{where}: its halves do not belong together", fix="the file is damaged: take its copy")
    return key


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(LEGACY + content, digest_size=_SUM_BYTES).digest()


def _mask(content: bytes, password: str, salt: bytes, cost: Cost) -> bytes:
    """Return `content` encrypted or decrypted: xor with what scrypt makes of the password."""
    if not password:
        raise UsageError("the password is empty", fix="give one, or --unencrypted for a key without")
    n, r, p = cost.scrypt()
    typed = password.encode(errors="surrogateescape")
    try:
        stream = hashlib.scrypt(typed, salt=salt, n=n, r=r, p=p, maxmem=2**31 - 1, dklen=len(content))
    except (MemoryError, ValueError) as error:
        seen = f"{128 * n * r >> 20} MiB"
        raise IOFault("not enough memory for the password of a key", seen=seen, fix="free some") from error
    return bytes(a ^ b for a, b in zip(content, stream, strict=True))
