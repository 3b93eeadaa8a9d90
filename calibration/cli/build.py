"""`edge-calibrate build`."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, make_console, reader_may_leave
from calibration.cli.count import check_count

if TYPE_CHECKING:
    from pathlib import Path

EX_BELOW_FLOOR = 1


@click.command()
@click.argument("model", type=FILE, metavar="MODEL.onnx|MODEL.tflite")
@click.option("--manifest", type=FILE, required=True, metavar="M.toml", help="As those of models/known.")
@click.option(
    "--clips",
    type=FILE,
    required=True,
    metavar="DIR",
    help="Clips and images, or a set made of them by `clips`.",
)
@click.option(
    "--held-out", type=FILE, metavar="DIR", help="Measure on these, and calibrate on all of --clips."
)
@click.option("--out", type=FILE, required=True, metavar="BUNDLE", help="Directory to make.")
@click.option("--work", type=FILE, metavar="DIR", help="Where a re-run goes on.  [default: BUNDLE.work]")
@click.option("--python", type=FILE, metavar="PATH", help="Python 3.12 or 3.13 for the converters.")
@click.option("--floor", type=click.FloatRange(0, 1), help="Least agreement with FP32, for the manifest's.")
@click.option("--size", metavar="WxH", help="Input size in pixels, for the manifest's and the model's.")
@click.option(
    "--count", type=click.IntRange(2), default=300, show_default=True, help="Pictures to choose of --clips."
)
@click.option("--as-is", is_flag=True, help="Build though another colour order or range looks better.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reader_may_leave()
def build(
    *,
    model: Path,
    manifest: Path,
    clips: Path,
    held_out: Path | None,
    out: Path,
    work: Path | None,
    python: Path | None,
    floor: float | None,
    size: str | None,
    count: int,
    as_is: bool,
    as_json: bool,
) -> None:
    """Make an INT8 bundle of a float MODEL, calibrated and searched on clips, measured on others.

    Exit codes: 0 done; 1 INT8 stays below the floor, no bundle; 2 usage; 3 too little in the pictures to measure on;
    65 bad data; 66 file missing, or no Python for the converters; 69 these can't be installed; 73 can't write.
    """
    from calibration.build import Order
    from calibration.build import build as make
    from calibration.building.draft import parse_size
    from calibration.cli.progress import shown
    from calibration.verdict import as_json as document

    check_count(clips, *([held_out] if held_out else []))
    order = Order(
        model=model,
        manifest=manifest,
        clips=clips,
        held_out=held_out,
        out=out,
        work=work or out.parent / f"{out.name}.work",
        python=python,
        floor=floor,
        size=parse_size(size) if size else None,
        count=count,
        as_is=as_is,
    )
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the converters end with it
    with shown(goes_on=True) as progress:
        finished = make(order, progress)
    if as_json:
        made = {"bundle": finished.bundle and str(finished.bundle), "report": str(finished.report)}
        click.echo(
            json.dumps(
                {**made, "notes": finished.notes, **json.loads(document(finished.verification))}, indent=2
            )
        )
    else:
        from calibration.table import print_verification

        console = make_console()
        print_verification(console, finished.verification)
        for line in finished.lines():
            console.print(line, soft_wrap=True, markup=False)
    raise SystemExit(0 if finished.bundle else EX_BELOW_FLOOR)
