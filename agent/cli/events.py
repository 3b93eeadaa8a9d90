"""`edge-agent events`: follow the events of devices as a subscriber, and prove that none is missing."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from agent.appending import append, open_to_append
from agent.cli.broker import broker_options, chosen_broker, level_of
from agent.cli.common import FILE, interrupts, make_console, reader_may_leave
from agent.errors import CannotCreate, IOFault, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from paho.mqtt.client import MQTTMessage
    from rich.console import Console
    from rich.text import Text

    from agent.collector import Collector, Missing, Taken

_SHOWN = 20
_SILENT_S = 5.0
_NOBODY = (
    "edge-agent: no agent seen on {}/status so far: check --device, --topic-root, and what the broker's access list "
    "lets this login read; still listening"
)


@click.command()
@click.option("--follow", is_flag=True, help="Print events as they come, until Ctrl-C.")
@broker_options
@click.option("--device", metavar="NAME", help="Follow this device alone; default: all.")
@click.option("--out", type=FILE, metavar="FILE", help="Append each event to this JSONL file, once.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print each event as one line of JSON, the summary last."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@click.option(
    "--client-id",
    metavar="NAME",
    default="",
    help="Have the broker keep what comes while this command does not run, for up to a week.",
)
def events(**given: Any) -> None:
    """Follow the events of all devices on a broker, each once, and report what is missing.

    Exit codes: 0 nothing is missing; 1 numbers are missing that no gap explains; 69 broker away; 73 can't
    write --out, 74 no more; 77 login or subscription refused.
    """
    from agent.collector import Collector
    from agent.mqtt.follow import Follower

    if not given["follow"]:
        raise UsageError("nothing to do", fix="add --follow")
    broker, root = chosen_broker(given)
    options = replace(broker, client_id=given["client_id"])
    base = f"{root}/{level_of('--device', given['device']) or '+'}"
    collector, console = Collector(), make_console()
    with reader_may_leave(), _opened(given["out"]) as out, interrupts() as stop:
        view = _View(collector, console, out, as_json=given["as_json"])

        def deliver(message: MQTTMessage) -> None:
            view.take(message)
            if given["count"] and collector.totals.events >= given["count"]:
                stop.set()

        follower = Follower(options, [f"{base}/events/+", f"{base}/gap", f"{base}/status"], deliver)
        told = threading.Event()

        def stopping() -> bool:
            if not told.is_set() and _silent(follower.granted_s, view.heard):
                told.set()
                click.echo(_NOBODY.format(base), err=True)
            return stop.is_set()

        follower.run(stopping)
        missing = collector.missing()
        view.sum_up(missing)
    if missing:
        raise SystemExit(1)


class _View:
    """Shows what comes on `console`, and keeps events in `out`."""

    def __init__(
        self, collector: Collector, console: Console, out: BinaryIO | None, *, as_json: bool
    ) -> None:
        self._collector, self._console, self._out, self._as_json = collector, console, out, as_json
        self.heard = False

    def take(self, message: MQTTMessage) -> None:
        """Take one message; it is on disk and shown on return."""
        line, self.heard = bytes(message.payload), True
        taken = self._collector.take(message.topic, line, retained=message.retain)
        if taken.kind == "event":
            if taken.late:
                line = line[:-1] + b',"late":true}'
            if self._out is not None:
                self._keep(line, self._out)
            if self._as_json:
                click.echo(line)
        if not self._as_json and taken.kind != "duplicate":
            self._console.print(_line(taken, message.topic), soft_wrap=True)

    def _keep(self, line: bytes, out: BinaryIO) -> None:
        """Have the event on disk; the broker is told only then that it arrived. Raises IOFault."""
        try:
            append(out, line + b"\n")
        except OSError as fault:
            fix = "make room; the broker keeps what it was not told of for those with a --client-id"
            raise IOFault(f"can't write to {out.name}", seen=fault.strerror, fix=fix) from fault

    def sum_up(self, missing: list[Missing]) -> None:
        """Show the totals and what is missing."""
        totals = asdict(self._collector.totals)
        if self._as_json:
            click.echo(json.dumps({"summary": {**totals, "missing": [asdict(each) for each in missing]}}))
            return
        count = sum(each.count for each in missing)
        self._console.print(
            f"{totals['events']} events, {totals['duplicates']} duplicates, {totals['late']} late, "
            f"{totals['out_of_order']} out of order, {totals['gaps']} gaps that report {totals['reported']}, "
            f"{count} missing",
            soft_wrap=True,
        )
        for each in missing[:_SHOWN]:
            why = "told by the next birth, not here yet" if each.tail else "no gap explains it"
            numbers = f"{each.count} of {each.first} to {each.last}"
            self._console.print(
                f"missing: {each.device}/{each.epoch}/{each.lane}: {numbers}: {why}", style="red"
            )
        if len(missing) > _SHOWN:
            self._console.print(f"missing: and {len(missing) - _SHOWN} more ranges", style="red")


def _line(taken: Taken, topic: str) -> Text:
    from rich.text import Text

    from agent.eventline import event_line

    if taken.event is not None:
        line = Text(f"{taken.device}/{taken.event.camera}  ").append_text(event_line(taken.event))
        return line.append("  late", "yellow") if taken.late else line
    if taken.gap is not None:
        gap = taken.gap
        numbers = f"{gap.count} of {gap.from_seq} to {gap.to_seq}, lane {gap.lane}, epoch {gap.epoch}"
        return Text(f"{taken.device}  gap: {gap.reason}: {numbers} will not come", "red")
    if taken.status is not None:
        return Text(f"{taken.device}  {taken.status.state}, epoch {taken.status.epoch}", "dim")
    return Text(f"{topic}  can't be read", "red")


def _silent(granted_s: float | None, heard: bool) -> bool:
    """Return whether nothing came although an agent's retained status would be here by now."""
    return granted_s is not None and not heard and time.monotonic() - granted_s >= _SILENT_S


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO | None]:
    """Yield the file to append to. Raises CannotCreate."""
    if path is None:
        yield None
        return
    try:
        file = open_to_append(path)
    except OSError as fault:
        raise CannotCreate(f"can't write to {path}", seen=fault.strerror, fix="give another --out") from fault
    with file:
        yield file
