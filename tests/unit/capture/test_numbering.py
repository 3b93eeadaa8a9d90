"""Numbers of frames: of a sound file and of a damaged one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.capture.numbering import Numbering

STEP = 100


@given(pts=st.lists(st.one_of(st.none(), st.integers(-(10**6), 10**6))))
def test_a_sound_file_counts_from_0(pts: list[int | None]) -> None:
    """Whatever the PTS are: no damage, no number left out."""
    numbering, numbers = Numbering(), []
    for value in pts:
        numbering.packet(value)
        numbers.append(numbering.frame(value, usual=STEP))
    assert numbers == list(range(len(pts)))


@given(fates=st.lists(st.sampled_from(["shown", "undecodable", "shown"]), max_size=100))
def test_what_can_not_be_decoded_has_its_number(fates: list[str]) -> None:
    """One packet is one frame, with and without a PTS."""
    with_pts, without, numbers = Numbering(), Numbering(), []
    for number, fate in enumerate(fates):
        with_pts.packet(number * STEP)
        without.packet(None)
        if fate == "shown":
            numbers.append(number)
            assert with_pts.frame(number * STEP, usual=STEP) == number
            assert without.frame(None, usual=STEP) == number
        else:
            with_pts.lost(number * STEP)
            without.lost(None)


def test_what_the_demuxer_lost_is_taken_from_the_hole() -> None:
    """Twenty steps without a packet, where data is missing: nineteen frames were lost."""
    numbering, numbers = Numbering(), []
    for number in (0, 1, 2, 22, 23):
        numbering.packet(number * STEP)
        if number == 22:
            numbering.torn()
        numbers.append(numbering.frame(number * STEP, usual=STEP))
    assert numbers == [0, 1, 2, 22, 23]


def test_a_frame_after_later_ones_was_counted_as_lost() -> None:
    """A decoder of a damaged stream that comes with an old picture: it has no number any more."""
    numbering = Numbering()
    for number in range(6):
        numbering.packet(number * STEP)
    numbering.lost(2 * STEP)
    assert [numbering.frame(n * STEP, usual=STEP) for n in (0, 1, 4, 3, 5)] == [0, 1, 4, None, 5]
