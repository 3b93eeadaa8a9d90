"""Bundles for tests of the model store: sound ones of any version, and every kind that must not come to run.

The networks are real and tiny (tests/tinynets.py); "street" is the shipped one for people under another name, which
finds the people of the sample clip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle import MANIFEST
from agent.starter import PEOPLE, shipped_bundle
from calibration.signing import sign_bundle
from tests import tinynets

if TYPE_CHECKING:
    from calibration.keys import SecretKey

NAME = "street"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SLOW_TIMES = 600
"""Convolutions of 38 million multiplications each: 600 ms where the starter takes 20."""

NETWORKS: dict[str, Callable[[], bytes]] = {
    "tiny": tinynets.good,
    "nan": tinynets.not_a_number,
    "late": tinynets.not_a_number_at_work,
    "constant": tinynets.constant,
    "shape": tinynets.wrong_shape,
    "slow": lambda: tinynets.looping(SLOW_TIMES),
    "spin": lambda: tinynets.looping(None),
    "large": tinynets.large,
    "crash": tinynets.crashing,
    "garbage": lambda: b"no model at all" * 40,
}
"""What a bundle may hold beside "street": "tiny" is sound, "late" fails at work, any other in its trial, as it says."""


def make_bundle(
    out: Path, kind: str = "tiny", *, version: int = 1, key: SecretKey | None = None, name: str = NAME
) -> Path:
    """Write the bundle directory `out`: "street", or one of NETWORKS; signed where there is a `key`."""
    if kind == "street":
        shutil.copytree(shipped_bundle(PEOPLE), out)
        text = (out / MANIFEST).read_text(encoding="utf-8")
        text = text.replace(f'name = "{PEOPLE}"', f'name = "{name}"')
        text = re.sub(r"^version = \d+$", f"version = {version}", text, count=1, flags=re.MULTILINE)
        (out / MANIFEST).write_text(text, encoding="utf-8")
    else:
        _write_tiny(out, NETWORKS[kind](), version, name)
    if key is not None:
        sign_bundle(out, key, AT)
    return out


def break_signature(bundle: Path) -> Path:
    """Change the manifest of a signed bundle after it was signed."""
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    (bundle / MANIFEST).write_text(text + "\n# changed\n", encoding="utf-8")
    return bundle


def sha_of(bundle: Path) -> str:
    """Return what the store calls a bundle: the sha256 of its manifest."""
    return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()


def zip_of(bundle: Path, out: Path, *, folder: str = "") -> Path:
    """Write the .zip `out` of a bundle, its files in `folder` where one is given."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.iterdir()):
            archive.write(file, f"{folder}/{file.name}" if folder else file.name)
    return out


@dataclasses.dataclass(frozen=True)
class Member:
    """One entry of a .zip as only somebody with bad intent writes it; `mode` as of stat, for Unix."""

    name: str
    content: bytes = b"x"
    mode: int = 0o100644


def bad_zip(out: Path, members: list[Member], *, of: Path | None = None) -> Path:
    """Write the .zip `out` of `members`, after the files of the bundle `of`."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(of.iterdir()) if of else ():
            archive.write(file, file.name)
        for member in members:
            info = zipfile.ZipInfo(member.name)
            info.filename, info.create_system, info.external_attr = member.name, 3, member.mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.content)
    return out


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write_tiny(out: Path, network: bytes, version: int, name: str) -> None:
    out.mkdir(parents=True)
    labels = b"red\ngreen\nblue\n"
    (out / "labels.txt").write_bytes(labels)
    (out / "fp32.tflite").write_bytes(network)
    text = f"""\
schema = 1
name = "{name}"
version = {version}
task = "classify"
licence = "none"
labels = "labels.txt"
labels_sha256 = "{hashlib.sha256(labels).hexdigest()}"
input = {{ width = {tinynets.SIZE}, height = {tinynets.SIZE}, std = [255.0, 255.0, 255.0] }}
decoder = {{ family = "classification" }}

[[artifact]]
file = "fp32.tflite"
format = "tflite"
precision = "fp32"
bytes = {len(network)}
sha256 = "{hashlib.sha256(network).hexdigest()}"
"""
    (out / MANIFEST).write_text(text, encoding="utf-8")
