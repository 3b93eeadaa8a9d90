"""A .zip that anybody may have made: a bundle comes out of it, or nothing anywhere."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
from pathlib import Path

import pytest

from agent.bundle import load_bundle
from agent.bundle.unzip import unpacked_bytes, unzip
from agent.errors import BadData, InputMissing
from tests.broken_models import Member, bad_zip, make_bundle, zip_of

LINK, FIFO, DEVICE = 0o120777, 0o010644, 0o020644


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return the directory to unpack into, deep enough for what wants out of it."""
    place = tmp_path / "a" / "b" / "out"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Return a bundle directory."""
    return make_bundle(tmp_path / "sound")


@pytest.mark.parametrize("folder", ["", "street"])
def test_a_bundle_comes_out_as_it_went_in(out: Path, sound: Path, folder: str) -> None:
    """With one folder around it or without."""
    archive = zip_of(sound, out.parent / "x.zip", folder=folder)
    unzip(archive, out)
    load_bundle(out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        file.name: file.read_bytes() for file in sound.iterdir()
    }
    assert unpacked_bytes(archive) == sum(file.stat().st_size for file in sound.iterdir())


def test_what_zip_programs_add_for_a_folder_is_no_fault(out: Path) -> None:
    """An entry for the folder itself."""
    unzip(bad_zip(out.parent / "x.zip", [Member("m/", b"", 0o040755), Member("m/labels.txt")]), out)
    assert [file.name for file in out.iterdir()] == ["labels.txt"]


BAD = {
    "leads up": [Member("../evil.txt")],
    "leads up from a folder": [Member("m/../../evil.txt")],
    "absolute": [Member("/tmp/evil.txt")],  # noqa: S108
    "backslashes": [Member("..\\..\\evil.txt")],
    "a drive": [Member("c:evil.txt")],
    "a dot": [Member("./model.toml")],
    "an empty folder name": [Member("//model.toml")],
    "a NUL": [Member("labels.txt\0.sh")],
    "a newline": [Member("labels\n.txt")],
    "a link": [Member("labels.txt", b"/etc/passwd", LINK)],
    "a link as a folder": [Member("m/", b"/etc", LINK), Member("m/labels.txt")],
    "a FIFO": [Member("labels.txt", b"", FIFO)],
    "a device": [Member("labels.txt", b"", DEVICE)],
    "a file twice": [Member("labels.txt"), Member("labels.txt", b"other")],
    "a file twice but for case": [Member("labels.txt"), Member("LABELS.txt", b"other")],
    "folders in folders": [Member("a/b/labels.txt")],
    "two folders": [Member("a/labels.txt"), Member("b/model.toml")],
    "a program": [Member("run.sh")],
    "a pickle": [Member("weights.pkl")],
    "a hidden file": [Member(".bashrc")],
    "a long name": [Member("a" * 250 + ".txt")],
    "many files": [Member(f"{number}.txt") for number in range(65)],
    "very many files": [Member(f"{number}.txt") for number in range(5000)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("kind", BAD)
def test_what_no_bundle_has_is_refused(out: Path, sound: Path, kind: str) -> None:
    """Whatever it is, in one line, and nothing is written anywhere else."""
    before = _all_files(out.parents[1]) | {out.parent / "x.zip"}
    archive = bad_zip(out.parent / "x.zip", BAD[kind])
    with pytest.raises(BadData) as fault:
        unzip(archive, out)
    assert "\n" not in str(fault.value)
    assert _all_files(out.parents[1]) == before, "nothing at all was unpacked"
    assert not (out.parents[1] / "evil.txt").exists()
    assert not Path("/tmp/evil.txt").exists()  # noqa: S108


def test_a_bomb_is_stopped_by_what_comes_out(out: Path) -> None:
    """50 MB in 50 kB: it ends at the limit, whatever sizes it tells."""
    archive = bad_zip(out.parent / "x.zip", [Member("labels.txt", bytes(50_000_000))])
    with pytest.raises(BadData, match="too much"):
        unzip(archive, out, most_bytes=10_000_000)
    assert (out / "labels.txt").stat().st_size <= 10_000_000


def test_a_bomb_that_lies_about_its_size_is_stopped_as_well(out: Path) -> None:
    """The list says a byte; what is read counts."""
    archive = bad_zip(out.parent / "x.zip", [Member("labels.txt", bytes(50_000_000))])
    raw = bytearray(archive.read_bytes())
    for signature, field in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = raw.index(signature)
        raw[at + field : at + field + 4] = struct.pack("<I", 1)
    archive.write_bytes(raw)
    with pytest.raises(BadData):
        unzip(archive, out, most_bytes=10_000_000)
    assert sum(file.stat().st_size for file in out.iterdir()) <= 10_000_000


def test_a_list_that_would_fill_the_memory_is_not_read(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of thousands of entries, also with zip64 or a second end inside of the last record."""

    def read(*_: object) -> None:
        raise AssertionError("the list was read")

    archive = bad_zip(out.parent / "x.zip", BAD["very many files"])
    monkeypatch.setattr(zipfile, "ZipFile", read)
    raw = archive.read_bytes()
    end = raw[-22:]
    small = b"PK\5\6" + bytes(18)
    zip64 = raw[:-22] + b"PK\6\7" + bytes(16) + small
    for content in (raw, zip64, raw[:-22] + end[:12] + b"PK\5\6" + end[16:]):
        archive.write_bytes(content)
        with pytest.raises(BadData, match="number of files"):
            unzip(archive, out)


def test_an_archive_cut_or_damaged_anywhere_is_refused(out: Path, sound: Path) -> None:
    """One line for each, whatever zipfile raises."""
    whole = zip_of(sound, out.parent / "x.zip").read_bytes()
    archive = out.parent / "y.zip"
    for size in range(0, len(whole), 7):
        archive.write_bytes(whole[:size])
        _refused(archive, out)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        archive.write_bytes(changed)
        _unpacked_or_refused(archive, out)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(out: Path, method: int) -> None:
    """Stored and deflated are what zip programs do."""
    with zipfile.ZipFile(out.parent / "x.zip", "w", method) as archive:
        archive.writestr("labels.txt", b"red" * 100)
    with pytest.raises(BadData, match="packed"):
        unzip(out.parent / "x.zip", out)


def test_one_that_is_not_there_is_told(out: Path) -> None:
    """As a missing input."""
    with pytest.raises(InputMissing):
        unzip(out / "no.zip", out)


def _all_files(place: Path) -> set[Path]:
    return {Path(folder) / name for folder, _, names in os.walk(place) for name in names}


def _refused(archive: Path, out: Path) -> None:
    with pytest.raises(BadData):
        unzip(archive, out)
    _empty(out)


def _unpacked_or_refused(archive: Path, out: Path) -> None:
    """Unpack it: some changes do no harm, of a time, of an attribute that means nothing."""
    with contextlib.suppress(BadData):
        unzip(archive, out)
    _empty(out)


def _empty(out: Path) -> None:
    for file in out.iterdir():
        file.unlink()
