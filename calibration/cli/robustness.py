"""`edge-calibrate robustness`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, make_console, reader_may_leave
from calibration.cli.count import check_count

if TYPE_CHECKING:
    from pathlib import Path

    from calibration.bootstrap import Figure
    from calibration.record import Robustness


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--clips", type=FILE, required=True, metavar="DIR", help="Clips and images, or a set of them.")
@click.option(
    "--labels", type=FILE, metavar="FILE", help="COCO file; of a classifier a CSV file,label or DIR/label/."
)
@click.option("--reference", type=FILE, metavar="MODEL", help="Compare with this .onnx or .tflite instead.")
@click.option("--count", type=click.IntRange(1), default=60, show_default=True, help="Frames of videos.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of what is random."
)
@click.option("--out", type=FILE, metavar="FOLDER", help="Write robustness.html and robustness.json there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reader_may_leave()
def robustness(
    *,
    bundle: Path,
    clips: Path,
    labels: Path | None,
    reference: Path | None,
    count: int,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare INT8 with FP32 under noise, blur, dark, fog, rain, JPEG, low resolution and a colour cast.

    Each in three severities. With labels the figure is mAP (top-1 of a classifier); without, both are compared
    with what FP32 finds on the clean picture.

    Exit codes: 0 done; 2 usage; 65 bad data, or nothing to compare; 66 file missing; 73 can't write FOLDER.
    """
    import msgspec

    from agent.bundle import load_bundle
    from calibration.cli.progress import shown
    from calibration.footage import Footage
    from calibration.record import dump
    from calibration.robustness import measure
    from calibration.spoiled import look, open_pair, samples
    from calibration.wholefile import ready_folder

    check_count(clips)
    if out is not None:
        ready_folder(out)
    footage, pair = Footage(clips, count), open_pair(load_bundle(bundle), reference)
    try:
        with shown() as progress:
            total = footage.total()
            found = look(
                pair, footage.frames(), seed=seed, progress=lambda done: progress("frames", done, total)
            )
        outcome = msgspec.structs.replace(
            measure(pair, found, labels=labels, seed=seed), skipped=footage.skipped
        )
        if out is not None:
            from calibration.report.robustnesspage import write_robustness

            write_robustness(outcome, samples(pair, found, seed=seed), out)
    finally:
        pair.close()
    if as_json:
        click.echo(dump(outcome).decode(), nl=False)
    else:
        _print(outcome)


def _print(outcome: Robustness) -> None:
    from rich.markup import escape
    from rich.table import Table

    from calibration.corruptions import CORRUPTIONS, SEVERITIES
    from calibration.wording import counted, figure_name

    table = Table(box=None, pad_edge=False)
    table.add_column("%")
    for network in ("FP32", "INT8"):
        for level in SEVERITIES:
            table.add_column(f"{network} {level}" if level == SEVERITIES[0] else str(level), justify="right")
    table.add_column("loses most", justify="right", no_wrap=True)
    for name in CORRUPTIONS:
        row = [result for result in outcome.results if result.corruption == name]
        figures = [*(each.reference for each in row), *(each.candidate for each in row)]
        worst = max(row, key=lambda result: result.lost.value)
        table.add_row(name, *map(_percent, figures), _range(worst.lost))
    console = make_console()
    seen = f"{counted(outcome.frames, 'frame')} of {counted(outcome.clips, 'clip')}"
    networks = f"FP32 {escape(outcome.reference)}, INT8 {escape(outcome.candidate)}"
    console.print(
        f"[bold]{escape(outcome.model)} {outcome.version}[/], {figure_name(outcome.metric)}, {seen}; {networks}",
        soft_wrap=True,
    )
    console.print(table)
    for what, result in (("clean", outcome.clean), ("mean of all", outcome.mean)):
        both = f"FP32 {_percent(result.reference)}, INT8 {_percent(result.candidate)}"
        console.print(f"{what}: {both}, loses {_range(result.lost)}")


def _range(lost: Figure) -> str:
    return f"{100 * lost.value:.1f} ({100 * lost.low:.1f} to {100 * lost.high:.1f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
