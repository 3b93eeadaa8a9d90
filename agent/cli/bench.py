"""`edge-agent bench`: how much of the engine's own rate is left for real video, and what it costs."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, make_console, reader_may_leave
from agent.errors import UsageError
from agent.hardware import default_threads

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option(
    "--source", metavar="FILE", help="Video to measure with; default: the sample clip as 1080p H.264."
)
@click.option(
    "--model", type=FILE, metavar="BUNDLE", help="Model bundle; default: the starter (80 labels of COCO)."
)
@click.option(
    "--cameras",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Compare one camera with so many on one engine.",
)
@click.option(
    "--threads", type=click.IntRange(1, 64), help="Threads of the engine; default: all cores but one."
)
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Of alternated runs."
)
@click.option(
    "--json",
    "json_file",
    type=FILE,
    metavar="FILE",
    help="Write all figures and runs; '-': to standard output.",
)
@click.option("--plot", "plot_file", type=FILE, metavar="PNG", help="Draw them (needs OpenCV).")
@click.option(
    "--mbit",
    type=click.FloatRange(0.05, 50),
    default=1.0,
    show_default=True,
    help="Bit rate of the clip made without --source, Mbit/s.",
)
@click.option(
    "--cache", type=FILE, metavar="DIR", help="Where it is kept; default: ~/.cache/edge-agent/bench."
)
@reader_may_leave()
def bench(
    *,
    source: str | None,
    model: Path | None,
    cameras: int,
    threads: int | None,
    rounds: int,
    json_file: Path | None,
    plot_file: Path | None,
    mbit: float,
    cache: Path | None,
) -> None:
    """Measure the frame path against the bare engine and against a plain OpenCV loop.

    All rates come from alternated runs, so that a noisy machine disturbs all alike; rounds in which the host of
    a virtual machine took more than 3 % of its processor time are also told apart ("quiet" are the others).

    The engine is the bundle's best .tflite on --threads, not what `tune` chose; TensorRT, its batches and its
    memory are not measured here: `edge-agent tune` does that.

    Exit codes: 0 done; 2 usage; 65 bad video or model; 66 file missing, or OpenCV for --plot; 73 can't write.
    """
    from agent.bench.clip import default_cache
    from agent.bench.output import Outputs
    from agent.bench.plan import Options
    from agent.bench.session import measure
    from agent.bench.table import table
    from agent.starter import starter_bundle

    if mbit != mbit:
        raise UsageError("--mbit", seen="nan", fix="give Mbit/s, such as 1")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the children end with it
    outputs = Outputs(json_file, plot_file)
    console = make_console(stderr=str(json_file) == "-")
    options = Options(
        source=source,
        model=model or starter_bundle(),
        cameras=cameras,
        threads=threads or default_threads(),
        rounds=rounds,
        mbit_s=mbit,
        cache=cache or default_cache(),
    )
    found = measure(options, lambda line: console.print(line, markup=False, soft_wrap=True))
    console.print()
    console.print(table(found))
    for note in found.setting.notes:
        console.print(note, markup=False, soft_wrap=True)
    outputs.write(found)
