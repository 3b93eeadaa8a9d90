"""The states of a camera: each fault is told in time, left when all is well, and none flaps."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import camerahealth
from agent.camerahealth import CameraHealth, HealthMachine, Signs
from agent.capture.link import LinkState
from agent.picture import BLACK, FROZEN, GREEN, GREY, SOUND

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTING, UP = LinkState("connecting"), LinkState("up")
REFUSED, LOST, SILENT = (
    LinkState("refused", "login"),
    LinkState("lost", "gone"),
    LinkState("silent", "silent"),
)
HZ = 15


class Camera:
    """A camera whose signs are read once a second."""

    def __init__(self, link: LinkState = UP, *, live: bool = True, hz: float = HZ) -> None:
        self.now_s, self.hz = 100.0, hz
        self.machine = HealthMachine(self.now_s)
        self.signs = Signs(link, live=live)

    def run(self, seconds: int, **signs: object) -> list[str]:
        """Let time go by with these signs; return the state after each second."""
        states = []
        for _ in range(seconds):
            self.now_s += 1.0
            grown = round(self.hz * (self.now_s - 100)) - round(self.hz * (self.now_s - 101))
            counts = {"packets": self.signs.packets + grown, "frames": self.signs.frames + grown}
            if self.signs.link.kind != "up":
                counts = {}
            self.signs = replace(self.signs, **counts)
            self.signs = replace(self.signs, **signs)  # type: ignore[arg-type]
            states.append(self.machine.step(self.signs, self.now_s).state)
        return states

    def silence(self, seconds: int) -> list[str]:
        """Let nothing come for so long."""
        return self.run(seconds, packets=self.signs.packets, frames=self.signs.frames)

    @property
    def health(self) -> CameraHealth:
        return self.machine.health


def well() -> Camera:
    camera = Camera()
    camera.run(20)
    assert camera.health.state == "ok"
    return camera


def test_a_camera_starts() -> None:
    """It is starting until its first picture, then ok at once."""
    camera = Camera(CONNECTING)
    assert set(camera.run(3)) == {"starting"}
    assert camera.run(2, link=UP)[-1] == "ok"
    assert camera.health.trusted


@pytest.mark.parametrize(
    ("link", "state", "within_s"),
    [(LOST, "down", 4), (REFUSED, "auth_failed", 1), (SILENT, "stalled", 1), (CONNECTING, "down", 8)],
)
def test_a_camera_that_can_t_be_had_is_told_from_the_start_on(
    link: LinkState, state: str, within_s: int
) -> None:
    """Each cause by its name, with its reason, long before 10 s, and it stays."""
    camera = Camera(link)
    assert camera.run(within_s)[-1] == state
    assert set(camera.run(100)) == {state}
    assert camera.health.detail
    assert not camera.health.trusted


@pytest.mark.parametrize(
    ("link", "state"), [(LOST, "down"), (REFUSED, "auth_failed"), (SILENT, "stalled"), (CONNECTING, "down")]
)
def test_a_camera_that_is_lost_comes_back(link: LinkState, state: str) -> None:
    """It is back only with pictures: a connection alone is not enough."""
    camera = well()
    assert camera.run(9, link=link)[-1] == state
    assert set(camera.run(3, link=UP, frames=camera.signs.frames)) == {state}
    assert camera.run(4)[-1] == "ok"


def test_a_hiccup_of_the_connection_is_no_fault() -> None:
    """Reconnected within a second: nothing is told."""
    camera = well()
    states = camera.run(1, link=LOST) + camera.run(5, link=UP)
    assert set(states) == {"ok"}


def test_one_fault_after_the_other_is_told() -> None:
    """Reasons that change go over into each other, never through ok."""
    camera = well()
    states = camera.run(10, link=LOST) + camera.run(10, link=REFUSED) + camera.run(10, link=LOST)
    assert [s for n, s in enumerate(states) if n == 0 or states[n - 1] != s] == [
        "ok",
        "down",
        "auth_failed",
        "down",
    ]


def test_silence_is_a_stall() -> None:
    """Connected, and nothing comes for 4 s."""
    camera = well()
    assert camera.silence(3)[-1] == "ok"
    assert camera.silence(2)[-1] == "stalled"
    assert camera.run(2)[-1] == "stalled"
    assert camera.run(2)[-1] == "ok"


def test_packets_without_a_picture_are_a_stall() -> None:
    """In idle pictures are as rare as key frames, which is none."""
    camera = well()
    assert camera.run(7, frames=camera.signs.frames)[-1] == "stalled"
    camera = well()
    assert set(camera.run(9, frames=camera.signs.frames, rare_s=5.0)) == {"ok"}


def test_a_camera_with_a_picture_every_10_s_is_ok_once_that_is_known() -> None:
    """What is usual is learned, and it still stalls."""
    camera = Camera(hz=0.1)
    assert camera.run(60)[-1] == "ok"
    assert set(camera.run(100)) == {"ok"}
    assert camera.silence(25)[-1] == "stalled"


def test_a_camera_that_is_joined_between_two_key_frames_waits_for_the_next() -> None:
    """Key frames 10 s apart are no stall at every connection; none for long is."""
    camera = Camera()
    assert set(camera.run(10, frames=0, awaiting_key=True)) == {"starting"}
    assert camera.run(1, awaiting_key=False) == ["ok"]
    camera = Camera()
    assert camera.run(35, frames=0, awaiting_key=True)[-1] == "stalled"


def test_a_camera_that_exposes_longer_by_night_is_ok() -> None:
    """25 pictures a second by day, 1.5 by night."""
    camera = Camera(hz=25)
    camera.run(100)
    camera.hz = 1.5
    assert set(camera.run(100)) == {"ok"}


def test_a_rate_far_below_the_usual_is_a_stall_until_it_is_the_usual() -> None:
    """15 pictures a second by day and 3 by night are fine; one in two seconds is not, but for how it stays."""
    camera = well()
    camera.hz = 3
    assert set(camera.run(60)) == {"ok"}
    camera = well()
    camera.hz = 0.5
    assert camera.run(9)[-1] == "stalled"
    assert camera.run(300)[-1] == "ok"


@pytest.mark.parametrize("flaw", [BLACK, GREEN, GREY, FROZEN])
def test_a_flaw_of_the_pictures_is_told(flaw: camerahealth.Flaw) -> None:
    """Within 3 s of being seen, and left 2 s after the last; frozen at once."""
    camera = well()
    assert camera.run(3, flaw=flaw)[-1] == flaw.kind
    assert camera.health.detail == flaw.detail
    assert camera.run(1 if flaw is FROZEN else 3, flaw=SOUND)[-1] == "ok"


def test_a_flaw_for_a_moment_is_none() -> None:
    """A light that is switched is not a fault."""
    camera = well()
    assert set(camera.run(1, flaw=BLACK) + camera.run(5, flaw=SOUND)) == {"ok"}


def test_damage_is_told_by_its_rate() -> None:
    """One damaged packet now and then is none; some within 5 s are, until there were none for a while."""
    camera = well()
    for _ in range(5):
        assert set(camera.run(8, damaged=camera.signs.damaged + 1)) == {"ok"}
    assert camera.run(1, damaged=camera.signs.damaged + 3) == ["corrupt"]
    assert camera.run(9)[-1] == "ok"


def test_a_burst_of_damage_is_over_before_the_camera_counts_as_lost() -> None:
    """Two seconds after the last; and a few damaged packets of many are no fault."""
    camera = well()
    assert camera.run(1, damaged=5) == ["corrupt"]
    assert camera.run(2) == ["corrupt", "ok"]
    camera = Camera(hz=25)
    camera.run(20)
    assert camera.run(1, damaged=3) == ["ok"]


def test_a_clip_that_answers_late_is_ok_at_once() -> None:
    """What it shows first counts as well."""
    camera = Camera(CONNECTING, live=False)
    assert camera.run(9)[-1] == "down"
    assert camera.run(2, link=UP)[-1] == "ok"


def test_a_clock_that_jumps_is_told_for_10_s_and_trusted() -> None:
    """Events go on meanwhile."""
    camera = well()
    states = camera.run(15, clock_jumps=1)
    assert states == ["clock_jump"] * 10 + ["ok"] * 5
    camera.run(1, clock_jumps=2)
    assert camera.health.trusted


def test_a_clip_is_what_it_is() -> None:
    """A file may pause, be black and end: it is ok once it gave a frame, and down when it can't be read."""
    camera = Camera(live=False)
    camera.run(2)
    assert set(camera.silence(60) + camera.run(60, flaw=BLACK)) == {"ok"}
    assert camera.run(3, link=LOST)[-1] == "down"


LINKS = st.sampled_from([CONNECTING, UP, REFUSED, LOST, SILENT])
FLAWS = st.sampled_from([SOUND, BLACK, GREEN, FROZEN])
COUNTS = st.integers(0, 10_000)
ANY_SIGNS = st.builds(
    Signs,
    LINKS,
    live=st.booleans(),
    packets=COUNTS,
    frames=COUNTS,
    damaged=COUNTS,
    clock_jumps=COUNTS,
    rare_s=st.floats(0, 60),
    flaw=FLAWS,
)
STEPS_S = st.one_of(st.just(1.0), st.floats(-1e6, 1e6))


def replay(series: Iterable[tuple[Signs, float]]) -> tuple[HealthMachine, float, list[CameraHealth]]:
    now_s, machine = 50.0, HealthMachine(50.0)
    seen = [machine.health]
    for signs, step_s in series:
        now_s += step_s
        seen.append(machine.step(signs, now_s))
    return machine, now_s, seen


@given(st.lists(st.tuples(ANY_SIGNS, STEPS_S), max_size=40))
def test_whatever_was_a_camera_that_is_well_becomes_ok(series: list[tuple[Signs, float]]) -> None:
    """After any history, counts that fell and time that went back included, and it stays ok."""
    machine, now_s, seen = replay(series)
    now_s = max([now_s, *(health.since_s for health in seen), machine._now_s])
    last = series[-1][0] if series else Signs(UP)
    for second in range(1, 400):
        more = second * HZ
        signs = Signs(
            UP,
            packets=last.packets + more,
            frames=last.frames + more,
            damaged=last.damaged,
            clock_jumps=last.clock_jumps,
        )
        health = machine.step(signs, now_s + second)
        assert second < 360 or health.state == "ok"


@given(st.lists(st.tuples(ANY_SIGNS, STEPS_S), max_size=60))
def test_no_state_flaps(series: list[tuple[Signs, float]]) -> None:
    """A fault lasts, but for a clip's and what is over with one sign; `since_s` moves with the state, never back."""
    _, _, seen = replay(series)
    for (signs, _), (before, after) in zip(series, itertools.pairwise(seen), strict=True):
        assert after.since_s >= before.since_s
        if after.state == before.state:
            assert after.since_s == before.since_s
        elif before.state not in ("ok", *camerahealth.LEAVE_AT_ONCE) and (signs.live or after.state != "ok"):
            assert after.since_s - before.since_s >= 2.0


@given(st.lists(st.sampled_from([UP, LOST]), min_size=20, max_size=60))
def test_a_connection_that_comes_and_goes_never_flaps_every_second(links: list[LinkState]) -> None:
    """Told at most once in 2 s, however it flickers."""
    camera, changes = well(), []
    for link in links:
        before = camera.health.state
        if camera.run(1, link=link) != [before]:
            changes.append(camera.now_s)
    assert all(b - a >= 2 for a, b in itertools.pairwise(changes))
