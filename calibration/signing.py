"""Bundles signed: `model.toml.minisig` beside the manifest, which holds the hash of all that the agent reads.

That is weights, labels, anchors and golden. What else lies there is for people and is not signed: report, licence.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from agent.bundle import MANIFEST, load_bundle, parse_manifest
from agent.bundle.files import read_file
from agent.bundle.signature import PREHASHED, TRUSTED, UNTRUSTED, prehash, verify_manifest
from agent.bundle.trust import SIGNATURE
from agent.errors import BadData
from agent.strict import shorten
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from agent.bundle import Manifest
    from agent.bundle.signature import Signed
    from calibration.keys import SecretKey

_NAME_CHARS = 200


def sign_bundle(path: Path, key: SecretKey, at: datetime) -> Signed:
    """Sign the bundle `path`, every file of it checked first; a signature it has is replaced.

    Raises InputMissing, BadData for what is wrong with the bundle, CannotCreate.
    """
    load_bundle(path).golden()
    raw = read_file(path, MANIFEST)
    manifest = parse_manifest(raw, where=str(path / MANIFEST))
    if manifest.unhashed:
        fix = "`edge-agent model add` and `edge-calibrate build` write bundles with all of them"
        raise BadData(f"{path / MANIFEST}: no sha256", seen=", ".join(manifest.unhashed), fix=fix)
    signature = sign(raw, key, comment_of(manifest, at))
    signed = verify_manifest(raw, signature, [key.public])
    write_whole(path / SIGNATURE, signature)
    return signed


def comment_of(manifest: Manifest, at: datetime) -> str:
    """Return the trusted comment: which bundle, which version, when."""
    name = shorten(manifest.name, _NAME_CHARS)
    return f"bundle {name} version {manifest.version}, signed {at:%Y-%m-%dT%H:%M:%SZ}"


def sign(content: bytes, key: SecretKey, comment: str) -> bytes:
    """Return the signature file of `content` with the trusted `comment`, as minisign 0.6 and later write it."""
    signature = key.sign(prehash(content))
    lines = (
        UNTRUSTED + f"signature by edge-calibrate, key {key.public.name}".encode(),
        b64encode(PREHASHED + key.key_id + signature),
        TRUSTED + comment.encode(),
        b64encode(key.sign(signature + comment.encode())),
    )
    return b"\n".join(lines) + b"\n"
