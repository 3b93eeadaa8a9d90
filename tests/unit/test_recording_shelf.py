"""Where clips lie: within the quota, spread over the hours and lights."""

from __future__ import annotations

import errno
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import CannotCreate, IOFault
from agent.recording.plan import LIGHTS, WHYS
from agent.recording.shelf import Shelf, Stored, make_name, parse_name, redundant

MORNING_S = 1_700_000_000.0


@given(st.floats(0, 4e9), st.sampled_from(LIGHTS), st.sampled_from(WHYS))
def test_a_name_tells_when_in_what_light_and_why(at_s, light, why):
    """To the millisecond."""
    stored = parse_name(make_name(at_s, light, why), 5)
    assert stored is not None
    assert (stored.light, stored.why, stored.size_bytes) == (light, why, 5)
    assert abs(stored.at_s - at_s) <= 0.0011


@pytest.mark.parametrize(
    "name", ["holiday.mkv", "20261301T000000.000Z-dark-first.mkv", "20260101T000000.000Z-dark-first.mkv.bak"]
)
def test_other_files_are_none_of_ours(name):
    """They are neither counted nor deleted."""
    assert parse_name(name, 1) is None


@given(
    st.lists(st.tuples(st.integers(0, 86_400), st.sampled_from(LIGHTS)), min_size=1, max_size=40, unique=True)
)
def test_what_goes_is_of_the_light_that_has_most(taken):
    """And never the first or the last of it while there are others."""
    clips = [
        Stored(make_name(MORNING_S + t, light, "regular"), MORNING_S + t, light, "regular", 1)
        for t, light in taken
    ]
    worst = redundant(clips)
    same = sorted((c for c in clips if c.light == worst.light), key=lambda c: c.name)
    assert all(len(same) >= sum(c.light == light for c in clips) for light in LIGHTS)
    if len(same) > 2:
        assert worst not in (same[0], same[-1])


def test_a_full_shelf_keeps_the_hours_and_the_nights(tmp_path):
    """A day of clips every ten minutes into a quota for a sixth: no gap, and every clip of the short night stays."""
    shelf = Shelf(tmp_path / "cam", 24_000)
    for n in range(144):
        light = "dark" if 60 <= n < 66 else "bright"
        shelf.put(bytes(1000), MORNING_S + 600 * n, light, "regular")
    clips = shelf.clips()
    assert len(clips) == 24
    assert shelf.given_up == 120
    assert sum(clip.light == "dark" for clip in clips) == 6
    times = [clip.at_s for clip in clips]
    assert max(b - a for a, b in itertools.pairwise(times)) <= 4 * 3600
    assert times[0] == MORNING_S
    assert times[-1] == MORNING_S + 600 * 143


def test_the_quota_holds_for_what_an_earlier_run_left(tmp_path):
    """Files of others in the folder are left alone; a clip larger than the quota is not kept."""
    first = Shelf(tmp_path, 5000)
    for n in range(5):
        first.put(bytes(1000), MORNING_S + n, "dim", "motion")
    (tmp_path / "notes.mkv").write_bytes(bytes(9000))
    again = Shelf(tmp_path, 3500)
    again.put(bytes(1000), MORNING_S + 100, "dim", "motion")
    assert sum(clip.size_bytes for clip in again.clips()) == 3000
    again.put(bytes(4000), MORNING_S + 200, "dim", "motion")
    assert len(again.clips()) == 3
    assert (tmp_path / "notes.mkv").stat().st_size == 9000


def test_two_clips_of_the_same_millisecond_both_stay(tmp_path):
    """A clock that was set back writes over nothing."""
    shelf = Shelf(tmp_path, 9000)
    for _ in range(3):
        shelf.put(b"x", MORNING_S, "dim", "motion")
    assert len(shelf.clips()) == 3


def test_a_killed_run_leaves_nothing_that_looks_like_a_clip(tmp_path):
    """What it was writing is removed by the next."""
    (tmp_path / ".20260101T000000.000Z-dark-first.mkv.part").write_bytes(b"half")
    assert Shelf(tmp_path, 9000).clips() == []
    assert list(tmp_path.iterdir()) == []


def test_links_and_what_goes_meanwhile_do_not_end_the_recording(tmp_path, monkeypatch):
    """A link that leads nowhere or to itself is left alone; a clip that is moved away is not missed."""
    shelf = Shelf(tmp_path, 9000)
    shelf.put(b"x", MORNING_S, "dim", "motion")
    (tmp_path / "old").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert [clip.size_bytes for clip in shelf.clips()] == [1]
    gone = tmp_path / make_name(MORNING_S + 1, "dim", "motion")
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda _: iter([gone]))
    assert shelf.clips() == []


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    """And leaves no half of a clip."""
    shelf = Shelf(tmp_path / "cam", 9000)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IOFault, match=r"the disk is full: .*cam; make room"):
        shelf.put(bytes(10), MORNING_S, "dark", "first")
    assert list((tmp_path / "cam").iterdir()) == []


def test_a_folder_that_can_not_be_made_is_one_clear_line(tmp_path):
    """Before any camera is opened."""
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreate, match="can't record into"):
        Shelf(tmp_path / "file" / "cam", 9000)
