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

    with shown(goes_on=True) as progress:
        record = make_once(sources, out, count=count, progress=progress)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())
    else:
        _print(record, out)


def _print(record: SetRecord, out: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from calibration.wording import counted

    table = Table(box=None, pad_edge=False)
    table.add_column("Part")
    for title in ("Looked at", "Kept"):
        table.add_column(title, justify="right")
    table.add_column("Clip, and what was left out of it", overflow="fold")
    videos = [clip for clip in record.clips if clip.looked_at > 1]
    for clip in videos:
        about = "\n  ".join(filter(None, (escape(clip.name), _reasons(clip.left_out))))
        table.add_row(clip.split, str(clip.looked_at), str(clip.kept), about)
    console = make_console()
    if videos:
        console.print(table)
    images = len(record.clips) - len(videos)
    clips = counted(len(videos), "clip") + (f" and {counted(images, 'image')}" if images else "")
    left_out = f"; left out: {_reasons(record.left_out)}" if record.left_out else ""
    skipped = counted(len(record.skipped), "file")
    console.print(
        f"{counted(record.looked_at, 'picture')} looked at in {clips}{left_out}; skipped: {skipped}"
    )
    if record.cut:
        line = f"{record.cut} was cut by time: both parts hold pictures of it. Give more clips."
        console.print(line, markup=False)
    line = f"{out}: {counted(record.calibrate, 'picture')} to calibrate on, {record.verify} to verify with"
    console.print(line, soft_wrap=True, markup=False)


def _reasons(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in left_out.items())
