"""Broker URLs, and how long a publisher waits before it tries again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from agent.backoff import Backoff
from agent.errors import BadConfig, UsageError
from agent.mqtt.options import _FIXES, _URL_FIX, MqttOptions, fix_for, parse_url
from agent.mqtt.transport import MqttTransport
from agent.urls import redact
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path


def test_url_parts() -> None:
    """Host, port, login (percent-decoded) and TLS come from the URL; ports have their defaults."""
    options = parse_url("mqtt://user:p%40ss@broker.example:1999")
    assert (options.host, options.port, options.username, options.password) == (
        "broker.example",
        1999,
        "user",
        "p@ss",
    )
    assert (parse_url("mqtts://b").port, parse_url("mqtts://b").tls, parse_url("mqtt://b").port) == (
        8883,
        True,
        1883,
    )
    assert parse_url("mqtt://[::1]:5").host == "::1"
    assert parse_url("mqtt://b?protocol=3.1.1").protocol == "3.1.1"
    assert parse_url("mqtt://b", client_id="x").client_id == "x"


@pytest.mark.parametrize(
    "url", ["mqtt://", "http://u:secret@b", "broker", "mqtt://u:secret@b:x", "mqtt://b/topic", "mqtt://b?x=1"]
)
def test_bad_urls_are_one_line_without_the_password(url: str) -> None:
    """What is no broker URL is a usage error that shows no secret."""
    with pytest.raises(UsageError, match="broker URL") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("fix", [fix_for(part) for part, _ in _FIXES] + [fix_for("else"), _URL_FIX])
def test_what_to_do_survives_where_secrets_are_hidden(fix: str) -> None:
    """A line that names the broker first and the fix behind it is not cut by the redaction."""
    line = f"broker mqtts://localhost:8883: refused: Not authorized; {fix}"
    assert redact(line) == line


def test_options_never_show_the_login() -> None:
    """Neither repr nor the name for logs holds user or password."""
    assert "hidden" not in repr(parse_url("mqtt://hidden:hidden2@b"))


def test_unreadable_certificates_are_a_config_error(tmp_path: Path) -> None:
    """A missing authority file stops before anything connects."""
    with pytest.raises(BadConfig, match="TLS files"):
        MqttTransport(MqttOptions("b", tls=True, ca_file=tmp_path / "none.pem"))


def test_backoff_grows_to_its_bound_with_full_jitter() -> None:
    """Waits lie between 0 and a bound that doubles to the maximum; reset begins anew."""
    backoff = Backoff(first_s=1.0, max_s=60.0, rng=random.Random(3))
    waits = [backoff.next_s() for _ in range(200)]
    assert all(0 <= wait <= min(60.0, 2.0**n) for n, wait in enumerate(waits[:60]))
    assert 25 < sum(waits[20:]) / len(waits[20:]) < 35
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_a_broker_that_refuses_the_login_is_tried_rarely() -> None:
    """At most 12 tries in ten minutes, on a clock of the test's."""
    import struct

    from tests.e2e.brokers import FakeBroker, wait_for

    now = [0.0]
    with FakeBroker(
        lambda _: b"\x20\x03\x00\x86\x00", lambda mid: struct.pack("!BBH", 0x40, 2, mid)
    ) as broker:
        transport = MqttTransport(
            MqttOptions("127.0.0.1", broker.port, username="u", password="secret"),  # noqa: S106
            rng=random.Random(2),
            clock=lambda: now[0],
        )
        while now[0] < 600:
            transport.poll(0.0)
            if transport._client is not None:
                wait_for(
                    lambda: not transport.poll(0.05) and transport._client is None, HANGS_S, "the refusal"
                )
            now[0] = max(now[0] + 1, transport._next_try_s)
        transport.close()
    assert 5 <= len(broker.levels) <= 12
    assert "secret" not in transport.link.error
