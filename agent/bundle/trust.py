"""Whose bundles run: what is shipped by its hash, others by their signature, or unsigned with a warning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.bundle.files import read_file
from agent.bundle.signature import MOST_BYTES, PublicKey, Signed, parse_public_key, verify_manifest
from agent.config.checks import is_key_line
from agent.errors import BadConfig, BadData
from agent.smallfile import read_small
from agent.starter import SHIPPED, is_shipped
from agent.strict import shorten

if TYPE_CHECKING:
    from agent.config import ModelsConfig

SIGNATURE = "model.toml.minisig"


@dataclass(frozen=True, slots=True)
class Trust:
    """The keys whose signatures count, and whether a bundle that is not shipped needs one."""

    keys: tuple[PublicKey, ...] = ()
    required: bool = False


NOBODY = Trust()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a manifest comes from. "unchecked": it has a signature, and there is no key to check it with."""

    kind: Literal["shipped", "signed", "unchecked", "unsigned"]
    signed: Signed | None = None

    @property
    def text(self) -> str:
        """The origin in words."""
        if self.signed is not None:
            return f"signed by {self.signed.key} ({self.signed.comment})"
        words = {"shipped": "shipped with this version", "unchecked": "signature not checked"}
        return words.get(self.kind, self.kind)


UNSIGNED = Origin("unsigned")


def read_trust(models: ModelsConfig) -> Trust:
    """Return whom the configuration trusts. Raises BadConfig, InputMissing or NotPermitted for a key file."""
    return Trust(tuple(map(_read_key, models.trusted_keys)), required=models.require_signature)


def origin_of(path: Path, manifest: bytes, trust: Trust) -> Origin:
    """Return where `manifest`, the bytes of the manifest in the directory `path`, comes from; nothing is parsed.

    Raises BadData for a changed model of this package, a signature that is no good, or one that is required
    and missing.
    """
    digest = hashlib.sha256(manifest).hexdigest()
    if digest in SHIPPED.values():
        return Origin("shipped")
    if is_shipped(path):
        fix = "install edge-agent again; if you built the model anew, pin this in agent/starter.py"
        raise BadData(f"{path}: not the manifest that this version was shipped with", seen=digest, fix=fix)
    file = path / SIGNATURE
    if not file.exists():
        if trust.required:
            fix = "sign it (edge-calibrate sign), or set require_signature = false in [models]"
            raise BadData("bundle is not signed, and a signature is required", seen=path, fix=fix)
        return UNSIGNED
    signature = read_file(path, SIGNATURE, most_bytes=MOST_BYTES)
    if not trust.keys and not trust.required:
        return Origin("unchecked")
    return Origin("signed", verify_manifest(manifest, signature, trust.keys, where=str(file)))


def _read_key(text: str) -> PublicKey:
    """Return the key in a line of the configuration, or in the file that it names."""
    if is_key_line(text):
        return parse_public_key(text.encode(), where="[models] trusted_keys", fault=BadConfig)
    what = f"[models] trusted_keys: {shorten(text, 120)}"
    missing = "give the path of a public key file, or the key itself: 56 characters, RW..."
    raw, _ = read_small(Path(text), what=what, max_bytes=MOST_BYTES, missing=missing)
    return parse_public_key(raw, where=what, fault=BadConfig)
