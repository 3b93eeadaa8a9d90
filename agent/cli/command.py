"""`edge-agent command`: tell a device over MQTT what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from agent.cli.asking import arguments
from agent.cli.broker import broker_options, chosen_broker, level_of
from agent.cli.common import interrupts, reader_may_leave

if TYPE_CHECKING:
    from agent.wire import CommandResult


@click.command()
@broker_options
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, 86400), default=30.0, show_default=True, metavar="S"
)
@click.option("--json", "as_json", is_flag=True, help="Print the last answer as one JSON document.")
@click.argument("device")
@click.argument("op")
@click.argument("args", nargs=-1, metavar="[KEY=VALUE]...")
@reader_may_leave()
def command(device: str, op: str, args: tuple[str, ...], **given: Any) -> None:
    """Have DEVICE do OP: status, reload, camera.enable, camera.disable, sampling.set, model.install, model.rollback.

    A VALUE is JSON where it can be, else text, as the name of a camera always is: camera=yard hz=2.5.

    Exit codes: 0 done; 1 failed or rejected; 69 broker away; 75 no answer in time; 77 login or topic refused.
    """
    import msgspec

    from agent.commands.asking import Request
    from agent.topics import Topics

    options, root = chosen_broker(given)
    topics = Topics.of(str(level_of("DEVICE", device)), root=root)
    own = replace(options, client_id="")  # the configuration's may be that of the agent, which is connected
    request = Request(own, topics, op, arguments(args), timeout_s=given["timeout_s"], tell=_show)
    with interrupts() as stop:
        answer = request.run(stop.is_set)
    if given["as_json"]:
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2))
    elif answer.state == "done":
        click.echo(msgspec.json.format(msgspec.json.encode(answer.result), indent=2))
    if answer.state != "done":
        click.echo(f"edge-agent: {op} {answer.state}: {answer.reason}", err=True)
        raise SystemExit(1)


def _show(answer: CommandResult) -> None:
    """Show on standard error that it was accepted, and how far it is."""
    if answer.state in {"accepted", "progress"}:
        told = answer.reason if answer.result is None else json.dumps(answer.result)
        click.echo(f"{answer.state} {told}".rstrip(), err=True)
