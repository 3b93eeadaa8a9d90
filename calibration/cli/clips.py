"""`edge-calibrate clips`: a set of pictures to calibrate on and to verify with, from folders of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, make_console, reader_may_leave

if TYPE_CHECKING:
    from pathlib import Path

    from calibration.clips.pictureset import SetRecord


@click.command()
@click.argument("sources", type=FILE, nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=FILE, required=True, metavar="SET", help="Folder to make.")
@click.option(
    "--count",
    type=click.IntRange(20, 2000),
    default=300,
    show_default=True,
    help="Pictures in all, a third of them to verify with; 100 to 500 are usual.",
)
@click.option("--json", "as_json", is_flag=True, help="Print set.json.")
@reader_may_leave()
def clips(sources: tuple[Path, ...], out: Path, count: int, as_json: bool) -> None:
    """Choose a representative set of pictures from folders of clips and images.

    Near-duplicates, outliers and pictures that show nothing are left out; of the others half are taken evenly
    and half are those that differ most. Whole clips are held out to verify with. SET gets set.json, report.html
    and the pictures. A run that was stopped goes on where it was.

    Exit codes: 0 done; 65 too few different pictures; 66 SOURCE missing; 73 can't write SET.
    """
    import msgspec

    from calibration.cli.progress import shown
    from calibration.clips.making import make_once

    with shown() as progress:
        record = make_once(sources, out, count=count, progress=progress)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())
    else:
        _print(record, out)


def _print(record: SetRecord, out: Path) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("Clip", "Part"):
        table.add_column(title, overflow="fold")
    for title in ("Looked at", "Kept"):
        table.add_column(title, justify="right")
    table.add_column("Left out", overflow="fold")
    videos = [clip for clip in record.clips if clip.looked_at > 1]
    for clip in videos:
        table.add_row(clip.name, clip.split, str(clip.looked_at), str(clip.kept), _counted(clip.left_out))
    console = make_console()
    if videos:
        console.print(table)
    images = len(record.clips) - len(videos)
    clips = f"{len(videos)} clips" + (f" and {images} images" if images else "")
    left_out = f"; left out: {_counted(record.left_out)}" if record.left_out else ""
    console.print(
        f"{record.looked_at} pictures looked at in {clips}{left_out}; skipped: {len(record.skipped)} files"
    )
    if record.cut:
        console.print(f"{record.cut} was cut by time: both parts hold pictures of it. Give more clips.")
    console.print(
        f"{out}: {record.calibrate} pictures to calibrate on, {record.verify} to verify with", soft_wrap=True
    )


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.items())
