"""`edge-agent probe`: what device this is, what can run on it, and what `run` would take; as a report or a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table
from rich.text import Text

from agent.backends.runtimes import try_runtimes
from agent.backends.usable import Backend, usable_backends
from agent.bundle import load_bundle
from agent.errors import InputMissing
from agent.hardware import Board, Sensors, identify, read_facts, read_sensors
from agent.measured import read_tuning
from agent.select import Plan, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


class Report(msgspec.Struct, frozen=True):
    """All that the command says. `model` is the name of the bundle that the plan is for."""

    board: Board
    sensors: Sensors
    backends: tuple[Backend, ...]
    model: str
    plan: Plan


def probe(bundle: Path, root: Path = Path("/"), *, state_dir: Path | None = None) -> Report:
    """Look at this device, or with another `root` at a copy of a device's files, where nothing can be tried.

    `state_dir` is where `tune` keeps what it measured.
    Raises InputMissing and BadData for the bundle, InputMissing for `root`.
    """
    if not root.is_dir():
        raise InputMissing("no such directory", seen=root, fix="give the top of a tree of files")
    manifest = load_bundle(bundle).manifest
    board = identify(read_facts(root))
    backends = usable_backends(board, try_runtimes() if root == Path("/") else None)
    tuning = read_tuning(state_dir, manifest.artifact) if state_dir is not None else None
    chosen = plan(board, manifest.artifact, backends, tuning)
    return Report(board, read_sensors(root), backends, f"{manifest.name} {manifest.version}", chosen)


def print_report(report: Report, console: Console) -> None:
    """Print the report as tables, in 80 columns where there is no terminal."""
    console.print(_table(None, _device_rows(report)))
    for problem in report.board.problems:
        console.print(f"! {problem.what}; {problem.fix}", style="bold red", markup=False)
    runs = [
        (b.name, {True: "yes", False: "no", None: "?"}[b.usable], b.version or "", _why(b.reason, b.fix))
        for b in report.backends
    ]
    console.print()
    console.print(_table(("backend", "runs", "version", ""), runs))
    console.print(f"\nplan for {report.model}", style="bold", markup=False)
    console.print(_table(None, _plan_rows(report.plan)))


def _device_rows(report: Report) -> list[tuple[str, str]]:
    board, sensors = report.board, report.sensors
    count = "?" if board.cores is None else str(board.cores)
    fewer = board.cores is not None and board.usable_cpus < board.cores
    rows = {
        "board": board.name + (f' (it calls itself "{board.model}")' if board.model else ""),
        "support": f"{board.tier}: {board.tier_reason}",
        "SoC": board.soc,
        "CPU": f"{count} x {board.cpu or 'unknown'}"
        + (f", {board.usable_cpus} usable here" if fewer else ""),
        "features": "unknown" if board.features is None else " ".join(board.features) or "none that matter",
        "memory": None if board.memory_bytes is None else f"{board.memory_bytes / 2**30:.1f} GiB",
        "OS": f"{board.os or 'unknown'}, {board.userland_bits or '?'}-bit userland",
        "kernel": " ".join(filter(None, (board.kernel, board.machine))),
        "JetPack": f"{board.jetpack or 'unknown'} (L4T {board.l4t})" if board.l4t else None,
        "TensorRT": board.tensorrt,
        "GPU": f"{board.gpu}, SM {board.sm}" if board.sm else board.gpu,
        "heat": ", ".join(
            f"{z.name} {z.temperature_c:.0f} C" for z in sensors.thermal if z.temperature_c is not None
        ),
        "power": ", ".join(
            f"{rail.name} {rail.power_w:.1f} W" for rail in sensors.power if rail.power_w is not None
        ),
        "hwmon": ", ".join(sensors.hwmon),
        "clocks": ", ".join(
            f"{clock.name} {clock.now_hz / 1e6:.0f} MHz" for clock in sensors.devfreq if clock.now_hz
        ),
    }
    return [(name, value) for name, value in rows.items() if value]


def _plan_rows(chosen: Plan) -> list[tuple[str, str]]:
    taken = "nothing can run" if chosen.choice is None else f"{chosen.choice} ({chosen.artifact})"
    rows = [("run", taken)]
    if chosen.choice is not None:
        rows.append(
            ("why", chosen.tuned or "not measured as it is now: `edge-agent tune` finds what is fastest")
        )
    rows += [("warning", warning) for warning in chosen.warnings]
    for other in chosen.rejected:
        name = " ".join(filter(None, (other.backend, other.artifact)))
        rows.append(("not", f"{name}: {_why(other.reason, other.fix)}"))
    return rows


def _why(reason: str, fix: str) -> str:
    return "; ".join(filter(None, (reason, fix)))


def _table(head: tuple[str, ...] | None, rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=None, show_header=head is not None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(head or ("",) * 2):
        table.add_column(name, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
