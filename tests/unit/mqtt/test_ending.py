"""What the end of a connection means for the next try."""

from __future__ import annotations

import ssl

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.mqtt import ending, reasons
from agent.mqtt.ending import Ending


def told(code: int, packet: int = PacketTypes.DISCONNECT) -> ReasonCode:
    """Return the reason of a broker's packet."""
    return ReasonCode(packet, identifier=code)


@pytest.mark.parametrize(
    ("code", "login_refused"), [(0x86, True), (0x87, True), (0x8C, True), (0x88, False), (0x84, False)]
)
def test_a_refusal_for_who_it_is_is_not_asked_again_soon(code: int, login_refused: bool) -> None:
    """A broker that is not there for now refuses nobody's login."""
    assert ending.refused(told(code, PacketTypes.CONNACK)).login_refused is login_refused


@pytest.mark.parametrize("stood", [False, True])
def test_a_disconnect_of_the_broker_in_words(stood: bool) -> None:
    """Before it accepted the connection it may not have understood this version of MQTT."""
    end = ending.disconnected(told(0x8B), "dev1", stood=stood)
    assert end == Ending("the broker disconnected: Server shutting down", silent=not stood)


def test_a_message_that_is_too_large_is_not_wanted_again() -> None:
    """The broker says of the connection what it means of a message."""
    assert ending.disconnected(told(reasons.PACKET_TOO_LARGE), "dev1", stood=True).too_large


def test_a_connection_that_another_client_took_is_no_success() -> None:
    """It names what both are called."""
    end = ending.disconnected(told(reasons.TAKEN_OVER), "dev1", stood=True)
    assert end.contested
    assert "(dev1)" in end.why
    assert not end.silent


def test_who_was_silent_and_what_was_no_success() -> None:
    """Only a broker that said nothing of MQTT is tried with the other version."""
    assert ending.no_connack(5.0).silent
    assert ending.lost("connection lost", stood=False).silent
    assert not ending.lost("connection lost", stood=True).silent
    assert not ending.failed(OSError(111, "Connection refused")).silent
    assert ending.no_puback(60.0).contested
    assert ending.FLOODED.contested


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (ValueError("Invalid host."), "Invalid host."),
        (TimeoutError(), "TimeoutError"),
        (ssl.SSLError(1, "wrong version number"), "wrong version number"),
    ],
)
def test_what_failed_is_told_in_words(fault: Exception, why: str) -> None:
    """Without the number of the fault, and never as nothing."""
    assert ending.failed(fault) == Ending(why)
