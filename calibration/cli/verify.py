"""`edge-calibrate verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, make_console, reader_may_leave
from calibration.cli.count import check_count

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--clips", type=FILE, required=True, metavar="DIR", help="Clips and images, or a set of them.")
@click.option(
    "--labels", type=FILE, metavar="FILE", help="COCO file; of a classifier a CSV file,label or DIR/label/."
)
@click.option("--reference", type=FILE, metavar="MODEL", help="Agree with this .onnx or .tflite instead.")
@click.option("--floor", type=click.FloatRange(0, 1), help="Instead of the manifest's.")
@click.option("--count", type=click.IntRange(1), default=300, show_default=True, help="Frames of videos.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--update", is_flag=True, help="Write what was measured into the manifest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reader_may_leave()
def verify(
    *,
    bundle: Path,
    clips: Path,
    labels: Path | None,
    reference: Path | None,
    floor: float | None,
    count: int,
    threads: int,
    update: bool,
    as_json: bool,
) -> None:
    """Measure every artifact of BUNDLE on clips that it was not calibrated on, and hold it against its floor.

    Without labels: agreement with FP32. Each figure comes with its 95 % interval.

    Exit codes: 0 passed; 1 an artifact is below the floor or does not run; 3 unmeasured; 2 usage; 65 bad data;
    66 file missing; 73 can't write.
    """
    from agent.bundle import load_bundle
    from calibration import verdict
    from calibration.cli.progress import shown
    from calibration.footage import Footage
    from calibration.table import print_verification
    from calibration.verify import measure

    check_count(clips)
    checked, footage = load_bundle(bundle), Footage(clips, count)
    if update:
        verdict.check_may_change(checked)
    with shown() as progress:
        total = footage.total()
        measured = measure(
            checked,
            footage.frames(),
            reference=reference,
            labels=labels,
            floor=floor,
            threads=threads,
            progress=lambda done: progress("frames", done, total),
        )
    found = verdict.complete(measured.verification, footage.skipped)
    if update:
        verdict.update(checked, found)
    if as_json:
        click.echo(verdict.as_json(found))
    else:
        print_verification(make_console(), found)
    raise SystemExit(found.exit_code)
