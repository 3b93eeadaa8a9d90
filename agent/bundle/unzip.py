"""A bundle out of a .zip that anybody may have made: nothing is written but a bundle's files, of bounded size."""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from agent.errors import BadData, InputMissing
from agent.strict import shorten

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 1 << 30
"""Of all files unpacked; the largest bundles have a tenth."""
_MOST_FILES = 64
_MOST_DIRECTORY_BYTES = 64 << 10
_CHUNK_BYTES = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,199}")
_SUFFIXES = frozenset(
    (".toml", ".minisig", ".txt", ".npy", ".npz", ".tflite", ".onnx", ".json", ".html", ".md", "")
)
_END = struct.Struct("<4s4H2LH")
"""The end of central directory record, APPNOTE.TXT 4.3.16; 20 bytes before it may stand that of zip64, "PK\\6\\7"."""
_FIX = "zip the bundle directory itself: its files alone, or in one folder"


def unzip(archive: Path, out: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """Unpack `archive` into the empty directory `out`; one folder around all files is left out.

    Raises InputMissing, BadData for anything that a bundle does not have (links, folders, names that lead
    elsewhere, more or larger files) and OSError where `out` can't be written.
    """
    if not archive.is_file():
        raise InputMissing(
            "model bundle not found", seen=archive, fix="give a bundle directory or a .zip of one"
        )
    _check_directory(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            left_bytes = most_bytes
            for name, member in _members(opened).items():
                left_bytes -= _extract(opened, member, out / name, left_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise _unsound(archive, error) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # zipfile looks for what would lie before the beginning
            raise _unsound(archive, error) from None
        raise


def _unsound(archive: Path, error: Exception) -> BadData:
    return BadData(f"{archive.name} is not a sound .zip", seen=error, fix="fetch it again")


def unpacked_bytes(archive: Path) -> int:
    """Return what the files of a .zip say they have unpacked, 0 for what is none. It need not be so."""
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive) as opened:
            return sum(member.file_size for member in opened.infolist())
    except (BadData, zipfile.BadZipFile, ValueError, RuntimeError, struct.error):
        return 0


def _check_directory(archive: Path) -> None:
    """Raise BadData for a list of files that would fill the memory: zipfile reads all of it."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - _END.size - 20))
        tail = file.read()
    at = len(tail) - _END.size
    if at < 0 or not (tail[at:].startswith(b"PK\5\6") and tail.endswith(b"\0\0")):  # no comment follows it
        at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise BadData(f"{archive.name} is not a .zip", seen=f"{size} bytes", fix=_FIX)
    _, _, _, _, files, directory_bytes, _, _ = _END.unpack_from(tail, at)
    zip64 = tail[max(0, at - 20) : at].startswith(b"PK\6\7")
    if zip64 or files > _MOST_FILES + 1 or directory_bytes > _MOST_DIRECTORY_BYTES:
        seen = "a list for large archives" if zip64 else f"{files}, in a list of {directory_bytes} bytes"
        raise BadData(
            f"{archive.name}: number of files", seen=seen, fix=f"a bundle has {_MOST_FILES} at most"
        )


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of `archive` by the names they get. Raises BadData."""
    found: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for member in archive.infolist():
        seen = repr(shorten(member.orig_filename, 60))
        if (why := _objection(member)) is not None:
            raise BadData(f"the .zip has {why}", seen=seen, fix=_FIX)
        folder, _, name = member.orig_filename.rpartition("/")
        folders.add(folder)
        if not name:
            continue
        if not _PLAIN.fullmatch(name) or PurePosixPath(name).suffix not in _SUFFIXES:
            raise BadData("the .zip has what no bundle has", seen=seen, fix=_FIX)
        if name.casefold() in (each.casefold() for each in found):
            raise BadData("the .zip has a file twice", seen=seen, fix=_FIX)
        found[name] = member
    if len(found) > _MOST_FILES:
        raise BadData("the .zip: number of files", seen=len(found), fix=f"a bundle has {_MOST_FILES} at most")
    if len(folders) > 1:
        raise BadData("the .zip has several folders", seen=repr(sorted(folders))[:60], fix=_FIX)
    return found


def _objection(member: zipfile.ZipInfo) -> str | None:
    """Return why `member` can't be part of a bundle, whatever its name at the end."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or "\\" in name or ":" in name or not name.isprintable():
        return "a name that is no plain path"
    if {".", ".."} & set(name.split("/")):
        return "a name that leads elsewhere"
    if name.count("/") > 1:
        return "a folder in a folder"
    if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        return "a link or a device"
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "a file that is encrypted, or packed in a way that is not usual"
    return None


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, most_bytes: int) -> int:
    """Write one file; return its size. What counts is what is read, not what the archive says."""
    size_bytes = 0
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as file, archive.open(member) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes > most_bytes:
                fix = "a bundle has 1 GiB at most"
                raise BadData("the .zip unpacks to too much", seen=f"more than {most_bytes} bytes", fix=fix)
            file.write(chunk)
    return size_bytes
