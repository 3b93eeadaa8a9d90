"""Makes a set: looks at every file, chooses, keeps the pictures, and publishes the set as a whole."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

from agent.bundle.files import digest_of
from agent.errors import BadData, CannotCreate, InputMissing
from agent.wholefile import write_whole
from calibration.clips import page
from calibration.clips.keeping import keep
from calibration.clips.pictureset import SET_FILE, Clip, Kept, SetRecord, Skipped, digest_of_list
from calibration.clips.scanning import scan
from calibration.clips.selecting import MIN_CALIBRATE, MIN_VERIFY, select, table_of
from calibration.clips.sources import find
from calibration.clips.units import units_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from calibration.clips.pictureset import Split
    from calibration.clips.scanning import Scan
    from calibration.clips.selecting import Choice, Table
    from calibration.clips.sources import Source
    from calibration.clips.units import Unit

    Progress = Callable[[str, int, int], None]

log = logging.getLogger(__name__)

WISHED = 100
"""Fewer pictures are warned of."""
_TOLD = 20


def make_once(paths: Sequence[Path], out: Path, *, count: int, progress: Progress | None = None) -> SetRecord:
    """Make the set `out`, a folder that is not there yet, of all clips and images in `paths`. Raises AgentError."""
    if out.exists():
        raise CannotCreate(f"{out} is there already", fix="name another folder, or remove it")
    sources, unread = find(paths)
    scans = out.with_name(f".{out.name}.scans")
    record = make_set(sources, unread, out, scans=scans, count=count, progress=progress)
    shutil.rmtree(scans)
    return record


def make_set(
    sources: Sequence[Source],
    unread: Sequence[Skipped],
    folder: Path,
    *,
    scans: Path,
    count: int,
    progress: Progress | None = None,
) -> SetRecord:
    """Make the set of at most `count` pictures of `sources` in `folder`, whole or not at all.

    What was seen of each file stays in `scans`, and pictures that are done beside `folder`: a re-run goes on
    from there. Raises InputMissing without any file, BadData for too few different pictures, CannotCreate.
    """
    if not sources and not unread:
        raise InputMissing("no clip and no image", fix="give folders of clips or images, or files")
    tell = progress or _silent
    part = folder.with_name(f".{folder.name}.part")
    _make_folder(part / "pictures")
    seen = _scans(sources, scans, tell)
    skipped = (*unread, *(Skipped(one.source.name, one.fault) for one in seen if one.fault))
    _tell_skipped(skipped)
    units = units_of(seen)
    if not units:
        raise BadData(
            f"none of {len(skipped)} files can be used", seen=_some(skipped), fix="give other clips"
        )
    table = table_of(units)
    choice = select(units, table, count)
    if not choice.enough:
        raise _too_few(table, choice, skipped)
    pictures = _keep(units, table, choice, part, tell)
    record = _record(units, table, choice, pictures, skipped)
    _publish(part, folder, record, page.render(part, record, table.looks))
    if len(pictures) < min(count, WISHED):
        log.warning("only %d different pictures: %d to 500 calibrate better", len(pictures), WISHED)
    return record


def _silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


def _scans(sources: Sequence[Source], folder: Path, tell: Progress) -> list[Scan]:
    seen = []
    for number, source in enumerate(sources, 1):
        seen.append(scan(source, folder))
        tell("looking at clips", number, len(sources))
    return seen


def _keep(
    units: Sequence[Unit], table: Table, choice: Choice, part: Path, tell: Progress
) -> tuple[Kept, ...]:
    """Write the chosen pictures; return them in the order of clips and times."""
    files: dict[int, Path] = {}
    wanted: dict[Source, dict[int, Path]] = {}
    for row in sorted([*choice.calibrate.tolist(), *choice.verify.tolist()]):
        seq = int(table.looks.seq[row])
        source = units[table.clip[row]].source_of(seq)
        ending = source.file.suffix.lower() if source.image else ".mkv"
        files[row] = part / "pictures" / f"{source.sha256[:12]}-{seq:06d}{ending}"
        wanted.setdefault(source, {})[seq] = files[row]
    written = (file for source, of_source in wanted.items() for file in keep(source, of_source))
    for done, _ in enumerate(written, 1):
        tell("keeping pictures", done, len(files))
    for stray in set((part / "pictures").iterdir()) - set(files.values()):
        stray.unlink()
    verify = set(choice.verify.tolist())
    return tuple(
        _kept(table, row, units[table.clip[row]].name, file, part, "verify" if row in verify else "calibrate")
        for row, file in files.items()
    )


def _kept(table: Table, row: int, clip: str, file: Path, part: Path, split: Split) -> Kept:
    looks = table.looks
    return Kept(
        file=str(file.relative_to(part)),
        clip=clip,
        seq=int(looks.seq[row]),
        pts_s=float(looks.pts_s[row]),
        sha256=digest_of(file),
        split=split,
        brightness=round(float(looks.brightness[row]), 2),
        contrast=round(float(looks.contrast[row]), 2),
        motion=round(float(looks.motion[row]), 4),
    )


def _record(
    units: Sequence[Unit],
    table: Table,
    choice: Choice,
    pictures: tuple[Kept, ...],
    skipped: tuple[Skipped, ...],
) -> SetRecord:
    clips = tuple(_clip(number, unit, table, choice, pictures) for number, unit in enumerate(units))
    left_out = sum((Counter(clip.left_out) for clip in clips), Counter[str]())
    parts = Counter(picture.split for picture in pictures)
    return SetRecord(
        digest=digest_of_list(picture.sha256 for picture in pictures),
        calibrate=parts["calibrate"],
        verify=parts["verify"],
        looked_at=sum(clip.looked_at for clip in clips),
        left_out=dict(left_out.most_common()),
        cut="" if choice.cut is None else units[choice.cut].name,
        clips=clips,
        skipped=skipped,
        pictures=pictures,
    )


def _clip(number: int, unit: Unit, table: Table, choice: Choice, pictures: Sequence[Kept]) -> Clip:
    rows = table.clip == number
    left_out = Counter(unit.left_out)
    left_out.update(outlier=int(table.outlier[rows].sum()), near_duplicate=int(choice.same[rows].sum()))
    kept = sum(picture.clip == unit.name for picture in pictures)
    looked_at = int(rows.sum()) + sum(unit.left_out.values())
    left_out["not needed"] = looked_at - kept - sum(left_out.values())
    split: Split | Literal["cut"] = "verify" if number in choice.held else "calibrate"
    return Clip(
        name=unit.name,
        sha256s=tuple(source.sha256 for source in unit.sources),
        split="cut" if number == choice.cut else split,
        looked_at=looked_at,
        kept=kept,
        left_out={reason: n for reason, n in left_out.items() if n},
    )


def _publish(part: Path, folder: Path, record: SetRecord, html: bytes) -> None:
    """Finish the folder `part` and give it the name `folder`. Raises CannotCreate."""
    write_whole(part / "report.html", html)
    write_whole(part / SET_FILE, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    try:
        part.rename(folder)
    except OSError as error:
        fix = "name a folder that is not there yet"
        raise CannotCreate(f"can't make {folder}", seen=error.strerror, fix=fix) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "write where this user may, and where there is room"
        raise CannotCreate(f"can't make {folder}", seen=error.strerror, fix=fix) from None


def _tell_skipped(skipped: Sequence[Skipped]) -> None:
    for one in skipped[:_TOLD]:
        log.warning("%s: skipped: %s", one.file, one.reason)
    if len(skipped) > _TOLD:
        log.warning("and %d more files are skipped", len(skipped) - _TOLD)


def _too_few(table: Table, choice: Choice, skipped: Sequence[Skipped]) -> BadData:
    same, outliers = int(choice.same.sum()), int(table.outlier.sum())
    seen = (
        f"{len(choice.calibrate)} to calibrate on (at least {MIN_CALIBRATE}), {len(choice.verify)} to verify"
        f" with (at least {MIN_VERIFY}); of {len(table.clip)} looked at {same} near-duplicates,"
        f" {outliers} outliers; {len(skipped)} files skipped{f' ({_some(skipped)})' if skipped else ''}"
    )
    return BadData("too few different pictures", seen=seen, fix="give more clips, of other times and scenes")


def _some(skipped: Sequence[Skipped]) -> str:
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return "; ".join(f"{one.file}: {one.reason}" for one in skipped[:3]) + more
