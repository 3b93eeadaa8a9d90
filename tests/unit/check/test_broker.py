"""What to do about a broker, by the words it or the system used."""

from __future__ import annotations

import pytest

from agent.check import broker
from agent.mqtt.options import MqttOptions, fix_for
from agent.transport import Outcome, Report


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("refused: Bad user name or password", "correct username"),
        ("refused: Not authorized", "username and password_file"),
        ("[Errno 111] Connection refused", "host and port"),
        ("[Errno -2] Name or service not known", "host name"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "ca_file"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "TLS port"),
        ("[Errno 104] Connection reset by peer", "8883 TLS"),
        ("no CONNACK within 10 s", "no MQTT broker"),
        ("something new", "network"),
    ],
)
def test_every_error_has_a_fix(error: str, words: str) -> None:
    """The known ones their own, the others the general one."""
    assert words in fix_for(error)


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.DELIVERED])
def test_a_publish_that_did_not_arrive_is_a_fault(outcome: Outcome) -> None:
    """Each outcome is told with the topic, the broker's words and a fix, without the password."""
    options = MqttOptions("host", username="pi", password="s3cret", client_id="edge/d-check")  # noqa: S106 - a made-up one
    report = Report("k", outcome, "0x87 Not authorized")
    (row,) = broker._verdict(options, report, protocol="MQTT 5", topic="edge/d/check", took_ms=1.0)
    assert (row.state, "0x87" in row.seen, "edge/d/check" in row.seen) == ("fault", True, True)
    assert row.fix
    assert "client edge/d-check" in row.seen
    assert "s3cret" not in repr(row)
