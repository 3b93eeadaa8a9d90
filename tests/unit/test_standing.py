"""How a camera stands: lost after long without trust, told when its state changes, as loud as it matters."""

from __future__ import annotations

import logging

import pytest

from agent.camerahealth import STARTING_S, Signs
from agent.capture.link import CONNECTING, LinkState
from agent.standing import LOST_S, Standing

GONE = Signs(LinkState("lost", "gone"))


def up(frames: int) -> Signs:
    """Return the signs of a camera that has given so many frames."""
    return Signs(LinkState("up"), packets=frames, frames=frames)


def lived(standing: Standing, signs: Signs, until_s: float, since_s: float) -> None:
    """Step once a second; a camera that is up gives a frame more each time."""
    for second in range(int(since_s) + 1, int(until_s) + 1):
        standing.step(up(second) if signs.link.kind == "up" else signs, float(second))


def test_a_camera_is_lost_after_long_without_trust_and_found_at_once() -> None:
    """Not while its fault is young; and only until it is well again."""
    standing = Standing("gate", 0.0, retries=True)
    lived(standing, up(1), 10, 0)
    assert (standing.health.state, standing.lost) == ("ok", False)
    now_s = 10
    while standing.health.trusted:
        now_s += 1
        standing.step(GONE, float(now_s))
    last_trusted_s = now_s - 1
    young = 0
    while not standing.lost:
        young += 1
        now_s += 1
        standing.step(GONE, float(now_s))
    assert young > 1
    assert now_s - last_trusted_s == LOST_S
    lived(standing, up(1), now_s + 10, now_s)
    assert (standing.health.state, standing.lost) == ("ok", False)


def test_a_clip_is_never_lost() -> None:
    """It is what it is, however late it answers."""
    standing = Standing("clip", 0.0, retries=True)
    for second in range(1, 60):
        standing.step(Signs(CONNECTING, live=False), float(second))
    assert standing.health.state == "down"
    assert not standing.lost


@pytest.mark.parametrize("retries", [True, False])
def test_a_camera_that_is_back_is_told_as_loud_as_it_was_told_down(
    caplog: pytest.LogCaptureFixture, *, retries: bool
) -> None:
    """A camera that was never there is told quietly where that ends the one command: the end tells of it."""
    caplog.set_level(logging.INFO, "agent.standing")
    standing = Standing("gate", 0.0, retries=retries)
    lived(standing, Signs(CONNECTING), STARTING_S + 5, 0)
    lived(standing, up(1), STARTING_S + 15, STARTING_S + 5)
    loud = logging.WARNING if retries else logging.INFO
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (loud, "camera gate: down (no answer yet): its pictures are not used"),
        (loud, "camera gate: ok, after 6 s down"),
    ]


def test_a_state_that_stays_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """And a start that goes well not at all."""
    standing = Standing("gate", 0.0, retries=False)
    lived(standing, up(1), 10, 0)
    assert not caplog.records
    lived(standing, GONE, 60, 10)
    assert [record.message for record in caplog.records] == [
        "camera gate: down (gone): its pictures are not used"
    ]
