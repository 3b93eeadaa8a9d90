"""`python -m tests.faults storm|link|disk|powercut`: make faults, print what became of every message.

    storm --events 50000 --kills 100 --restarts 30     kill -9 of the agent's part, restarts of the broker
    link --loss 30 --rtt 2                             packets lost at random, and what comes comes late
    disk [full over_the_cap read_only read_only_start eio_fsync eio_write erofs_write enospc_write]
    powercut --cuts 10 [--work DIR]                    DIR keeps the kernel that the virtual machine needs

`--json FILE` writes all figures. Exit code 1 when a message is lost, told twice, out of order or unaccounted for.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.faults.disk import SCENARIOS, CannotInject
from tests.faults.guest import CannotRun
from tests.faults.killing import run_storm
from tests.faults.link import in_own_network, run_link
from tests.faults.powercut import cut_power

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXPECTED = {
    "lost": "0",
    "told_but_absent": "0",
    "never_committed": "0",
    "copies_share": "<= 3 %",
    "inversions": "0",
    "ids_reused": "0",
    "accounts_broken": "0",
    "lives_broken": "0",
    "left_open": "0",
}


def storm(args: argparse.Namespace, folder: Path) -> tuple[bool, Any]:
    """Run the kill storm."""
    result = run_storm(
        folder,
        events=args.events,
        kills=args.kills,
        restarts=args.restarts,
        restarts_by_kill=args.restarts_by_kill,
        seed=args.seed,
    )
    figures = result.as_dict()
    verdict = figures.pop("verdict")
    _print("kill storm", {**figures, **verdict})
    if result.verdict.lost:
        print("lost:", *result.verdict.lost_ids)
        print("the broker ended:", *result.broker_ended, sep="\n  ")
    sound = result.verdict.sound and result.drained and result.copies_explained
    return sound, {**figures, "verdict": verdict}


def link(args: argparse.Namespace, folder: Path) -> tuple[bool, Any]:
    """Send over a bad link, in a network of its own."""
    if not args.inside:
        try:
            code = in_own_network(*sys.argv[1:], "--inside")
        except CannotInject as cannot:
            sys.exit(f"link: {cannot}")
        sys.exit(code)
    result = run_link(folder, events=args.events, hz=args.hz, loss_percent=args.loss, rtt_s=args.rtt)
    figures = result.as_dict()
    verdict = figures.pop("verdict")
    _print("bad link", {**figures, **verdict})
    sound = result.verdict.sound and result.drained and result.verdict.copies_share <= 0.03
    return sound, {**figures, "verdict": verdict}


def disk(args: argparse.Namespace, folder: Path) -> tuple[bool, Any]:
    """Run faults of the disk."""
    sound, told = True, {}
    for name in args.faults or SCENARIOS:
        (folder / name).mkdir()
        try:
            result = SCENARIOS[name](folder / name)
        except CannotInject as cannot:
            print(f"{name}: skipped: {cannot}")
            continue
        figures = told[name] = result.as_dict()
        verdict = figures["verdict"]
        _print(result.fault, {**{k: v for k, v in figures.items() if k not in {"verdict", "log"}}, **verdict})
        print(*result.log, sep="\n")
        sound &= result.verdict.sound and result.drained
    return sound, told


def powercut(args: argparse.Namespace, folder: Path) -> tuple[bool, Any]:
    """Cut the power of a virtual machine."""
    try:
        cuts = cut_power(folder, cuts=args.cuts, work=args.work, seed=args.seed)
    except CannotRun as cannot:
        sys.exit(f"powercut: {cannot}")
    table = Table("cut", "told committed", "on disk", "lost", "accounts hold")
    for number, cut in enumerate(cuts, 1):
        table.add_row(str(number), str(cut.told), str(cut.on_disk), str(cut.lost), str(cut.accounts_hold))
    Console(width=80).print(table)
    return all(not cut.lost and cut.accounts_hold for cut in cuts), [asdict(cut) for cut in cuts]


def _print(title: str, figures: Mapping[str, Any]) -> None:
    table = Table("figure", "measured", "target", title=title)
    for name, value in figures.items():
        if isinstance(value, tuple):
            continue
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, _EXPECTED.get(name, ""))
    Console(width=80).print(table)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    storming = kinds.add_parser("storm")
    storming.add_argument("--events", type=int, default=50_000)
    storming.add_argument("--kills", type=int, default=100)
    storming.add_argument("--restarts", type=int, default=30)
    storming.add_argument("--restarts-by-kill", type=int, default=0, help="so many of them by kill -9")
    storming.set_defaults(run=storm)
    linking = kinds.add_parser("link")
    linking.add_argument("--events", type=int, default=600)
    linking.add_argument("--hz", type=float, default=10.0)
    linking.add_argument("--loss", type=int, default=30, help="percent of all packets")
    linking.add_argument("--rtt", type=float, default=2.0, help="seconds there and back")
    linking.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    linking.set_defaults(run=link)
    filling = kinds.add_parser("disk")
    filling.add_argument("faults", nargs="*", choices=[*SCENARIOS, []])
    filling.set_defaults(run=disk)
    cutting = kinds.add_parser("powercut")
    cutting.add_argument("--cuts", type=int, default=10)
    cutting.add_argument("--work", type=Path)
    cutting.set_defaults(run=powercut)
    for kind in (storming, linking, filling, cutting):
        kind.add_argument("--seed", type=int, default=1)
        kind.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # paho's last words at a broker that goes
    with tempfile.TemporaryDirectory(prefix="edge-agent-faults-") as folder:
        sound, told = args.run(args, Path(folder))
    if args.json:
        args.json.write_text(json.dumps(told, indent=2) + "\n")
    print("sound" if sound else "NOT SOUND")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
