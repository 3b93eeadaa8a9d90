"""`edge-agent events`: follow the events of devices as a subscriber, and prove that none is missing."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from agent.appending import append, open_to_append
from agent.cli.common import DEFAULT_CONFIG, FILE, make_console, reader_may_leave
from agent.errors import BadConfig, CannotCreate, InputMissing, IOFault, UsageError
from agent.topics import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from paho.mqtt.client import MQTTMessage
    from rich.console import Console
    from rich.text import Text

    from agent.collector import Collector, Missing, Taken
    from agent.mqtt.options import MqttOptions

_SHOWN = 20
_SILENT_S = 5.0
_NOBODY = (
    "edge-agent: no agent seen on {}/status so far: check --device, --topic-root, and what the broker's access list "
    "lets this login read; still listening"
)


@click.command()
@click.option("--follow", is_flag=True, help="Print events as they come, until Ctrl-C.")
@click.option(
    "--config", type=FILE, metavar="FILE", envvar="EDGE_AGENT_CONFIG", help=f"Default: {DEFAULT_CONFIG}."
)
@click.option(
    "--broker", metavar="URL", help="mqtt://[user:password@]host[:port], instead of a configuration."
)
@click.option("--ca-file", type=FILE, metavar="PEM", help="Authority of the broker's certificate.")
@click.option("--cert-file", type=FILE, metavar="PEM", help="A certificate to show to the broker.")
@click.option("--key-file", type=FILE, metavar="PEM", help="Its key.")
@click.option("--device", metavar="NAME", help="Follow this device alone; default: all.")
@click.option("--topic-root", metavar="ROOT", help="Default: the configuration's, else edge.")
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
    options, root = _broker(given)
    base = f"{root}/{_level('--device', given['device']) or '+'}"
    collector, console = Collector(), make_console()
    with reader_may_leave(), _opened(given["out"]) as out, _interrupts() as stop:
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


def _broker(given: dict[str, Any]) -> tuple[MqttOptions, str]:
    """Return where to subscribe, and the root of the topics. Raises AgentError."""
    from dataclasses import replace

    from agent.config.load import load_config
    from agent.credentials import mqtt_options
    from agent.mqtt.options import parse_url

    if given["broker"] is not None:
        if (
            click.get_current_context().get_parameter_source("config")
            == click.core.ParameterSource.COMMANDLINE
        ):
            raise UsageError("--config and --broker together", fix="give one of them")
        options, root = parse_url(given["broker"]), "edge"
    else:
        try:
            config = load_config(given["config"] or DEFAULT_CONFIG)
        except InputMissing as fault:
            if given["config"] is not None:
                raise
            fix = "give --broker URL, or --config FILE"
            raise InputMissing(fault.what, seen=fault.seen, fix=fix) from fault
        if config.mqtt is None:
            raise UsageError("the configuration has no [mqtt]", fix="give --broker")
        options, root = mqtt_options(config.mqtt), config.topic_root
    names = ("ca_file", "cert_file", "key_file")
    options = replace(options, **{name: given[name] for name in names if given[name] is not None})
    if not options.tls and any(given[name] for name in names):
        raise UsageError("certificates without TLS", fix="give --broker mqtts://host")
    if (options.cert_file is None) != (options.key_file is None):
        raise UsageError("one of --cert-file and --key-file", fix="give both")
    for level in (given["topic_root"] or root).split("/"):
        _level("--topic-root", level)
    return replace(options, client_id=given["client_id"]), given["topic_root"] or root


def _level(option: str, name: str | None) -> str | None:
    """Return `name` if it is None or can be one level of a topic. Raises UsageError."""
    try:
        return None if name is None else check_name(option, name)
    except BadConfig as fault:
        raise UsageError(fault.what, seen=fault.seen, fix=fault.fix) from fault


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


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Yield what SIGINT and SIGTERM set."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
