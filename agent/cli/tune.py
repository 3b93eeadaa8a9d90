"""`edge-agent tune`: measure every way to run a bundle here, and keep the best for `run`."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from agent.cli.common import (
    FILE,
    bundle_of,
    check_owner,
    make_console,
    reader_may_leave,
    state_dir_of,
    trust_of,
)
from agent.errors import ServiceAway, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[str, int, int], None]


@click.command()
@click.option(
    "--model", type=FILE, metavar="BUNDLE", help="Model bundle; default: that of --config, or the starter."
)
@click.option(
    "--config", type=FILE, envvar="EDGE_AGENT_CONFIG", metavar="FILE", help="For the agent of this file."
)
@click.option(
    "--state", "state_dir", type=FILE, metavar="DIR", help="For the agent with this state directory."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    default=3.0,
    show_default=True,
    help="Time each candidate for so long, all rounds together.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@reader_may_leave()
def tune(
    *, model: Path | None, config: Path | None, state_dir: Path | None, seconds: float, as_json: bool
) -> None:
    """Measure every backend, precision, number of threads and delegate that can run a bundle on this device.

    Each candidate runs in processes of its own, by turns with the others. What fails its trial or is below the
    bundle's accuracy floor is not taken. The fastest is kept in the state directory, for `run`, until the
    device, its runtimes or the weights change; within 5 % fewer threads and less memory win.

    With --seconds 3 each takes about 6 to 15 s: a Raspberry Pi has eight with one artifact, which is a minute or
    two. TensorRT builds its engines first, many minutes each: for one picture, and for several of the cameras in
    --config at once, where the model can. Stop what else uses the device.

    Exit codes: 0 done; 2 usage; 65 bad bundle; 66 bundle missing; 69 nothing here can run it; 73 can't write the
    state directory; 77 it is another user's, and this is root; 130 interrupted, nothing is kept.
    """
    import msgspec

    from agent.tune.output import print_tuning
    from agent.tune.session import tune as measure

    if seconds != seconds:
        raise UsageError("--seconds", seen="nan", fix="give seconds, such as 3")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the child ends with it
    place = state_dir or state_dir_of(config)
    check_owner(place)
    with _progress() as tell:
        bundle, cameras = bundle_of(model, config), _cameras(config)
        trust = trust_of(config)
        tuning, kept = measure(bundle, place, seconds=seconds, cameras=cameras, trust=trust, tell=tell)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(tuning), indent=2).decode())
    else:
        print_tuning(tuning, kept, make_console())
    if tuning.chosen is None:
        seen = next((each.objection for each in tuning.measured), "; ".join(tuning.absent))
        raise ServiceAway(f"nothing here can run {tuning.model}", seen=seen, fix="see `edge-agent probe`")


def _cameras(config: Path | None) -> int:
    """Return how many cameras of `config` are on, 1 without one."""
    from agent.config.load import load_config

    return max(1, sum(camera.enabled for camera in load_config(config).camera)) if config else 1


@contextmanager
def _progress() -> Iterator[Progress]:
    """Give a function to tell what is measured now, the turn and of how many: a bar, where somebody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn(), words)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, turn, of: bar.update(task, description=what, completed=turn - 1, total=of)
