"""`edge-calibrate compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, make_console, reader_may_leave
from calibration.cli.count import check_count

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option("--clips", type=FILE, required=True, metavar="DIR", help="Clips and images, or a set of them.")
@click.option(
    "--labels", type=FILE, metavar="FILE", help="COCO file; of a classifier a CSV file,label or DIR/label/."
)
@click.option("--out", type=FILE, metavar="FOLDER", help="Write compare.html and compare.json there.")
@click.option("--count", type=click.IntRange(1), default=300, show_default=True, help="Frames of videos.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reader_may_leave()
def compare(
    *,
    a: Path,
    b: Path,
    clips: Path,
    labels: Path | None,
    out: Path | None,
    count: int,
    threads: int,
    as_json: bool,
) -> None:
    """Compare two bundles on the same frames: accuracy, speed, memory, and where they disagree.

    Speed is measured a frame of each in turn, so that a busy machine disturbs both alike.

    Exit codes: 0 done; 2 nothing in common; 65 bad data; 66 file missing; 73 can't write FOLDER.
    """
    import msgspec

    from agent.bundle import load_bundle
    from calibration.cli.progress import shown
    from calibration.compare import compare as measure
    from calibration.footage import Footage
    from calibration.record import dump
    from calibration.table import HEADS, comparison_rows, print_comparison

    check_count(clips)
    footage = Footage(clips, count)
    with shown() as progress:
        total = footage.total()
        found, worst = measure(
            load_bundle(a),
            load_bundle(b),
            footage.frames(),
            labels=labels,
            threads=threads,
            progress=lambda done: progress("frames", done, total),
        )
    found = msgspec.structs.replace(found, skipped=footage.skipped)
    if out is not None:
        from agent.wholefile import write_whole
        from calibration.report.comparison import compare_page

        write_whole(out / "compare.html", compare_page(found, HEADS, comparison_rows(found), worst))
        write_whole(out / "compare.json", dump(found))
    if as_json:
        click.echo(dump(found).decode(), nl=False)
    else:
        print_comparison(make_console(), found)
