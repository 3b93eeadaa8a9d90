"""Which broker a command reads from: its options, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import DEFAULT_CONFIG, FILE
from agent.errors import BadConfig, InputMissing, UsageError
from agent.topics import check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.mqtt.options import MqttOptions

_OPTIONS = (
    click.option(
        "--config", type=FILE, metavar="FILE", envvar="EDGE_AGENT_CONFIG", help=f"Default: {DEFAULT_CONFIG}."
    ),
    click.option(
        "--broker", metavar="URL", help="mqtt://[user:password@]host[:port], instead of a configuration."
    ),
    click.option("--ca-file", type=FILE, metavar="PEM", help="Authority of the broker's certificate."),
    click.option("--cert-file", type=FILE, metavar="PEM", help="A certificate to show to the broker."),
    click.option("--key-file", type=FILE, metavar="PEM", help="Its key."),
    click.option(
        "--topic-root",
        "--root",
        "topic_root",
        metavar="ROOT",
        help="Default: the configuration's, else edge.",
    ),
)


def broker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to `command`; it gets them under their names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_broker(given: dict[str, Any]) -> tuple[MqttOptions, str]:
    """Return where to subscribe, and the root of the topics, by the options `given`. Raises AgentError."""
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
        level_of("--topic-root", level)
    return options, given["topic_root"] or root


def level_of(option: str, name: str | None) -> str | None:
    """Return `name` if it is None or can be one level of a topic. Raises UsageError."""
    try:
        return None if name is None else check_name(option, name)
    except BadConfig as fault:
        raise UsageError(fault.what, seen=fault.seen, fix=fault.fix) from fault
