"""What is measured on is not what was calibrated on, however both were given."""

from __future__ import annotations

import pytest

from agent.errors import BadData
from calibration.building.apart import check_apart
from calibration.clips.making import make_once
from tests.unit.calibration.scenes import scene, write_clip, write_image


def clip(path, first=0):
    """Write a clip of 60 pictures that all differ."""
    return write_clip(path, [scene(first + n) for n in range(60)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with one clip, and beside it `set` and `other`, two sets that were made of it."""
    made = tmp_path_factory.mktemp("sets")
    clip(made / "in" / "one.mp4")
    make_once([made / "in"], made / "set", count=40)
    make_once([made / "in"], made / "other", count=25)
    return made


@pytest.mark.parametrize(("clips", "held_out"), [("set", "in"), ("in", "set"), ("set", "other")])
def test_a_set_is_not_apart_from_the_clips_it_was_made_of(folder, clips, held_out):
    """Its pictures are files of their own, so the clips' own hashes are kept in it."""
    with pytest.raises(BadData, match=r"--held-out holds what is calibrated on: one\.mp4"):
        check_apart(folder / clips, folder / held_out)


def test_clips_of_other_times_are_apart_from_a_set(folder):
    """Another clip, and a set of it."""
    clip(folder / "later" / "one.mp4", 100)
    make_once([folder / "later"], folder / "later-set", count=40)
    for clips in ("in", "set"):
        for held_out in ("later", "later-set"):
            check_apart(folder / clips, folder / held_out)


def test_every_image_of_a_film_is_known(tmp_path):
    """Images that follow each other are one clip; any of them tells it."""
    for n in range(60):
        luma = scene(5)
        luma[20:60, 2 * n : 2 * n + 30] = 230
        write_image(tmp_path / "in" / f"{n:03}.png", luma)
    record = make_once([tmp_path / "in"], tmp_path / "set", count=20)
    kept = {picture.seq for picture in record.pictures}
    left_out = next(n for n in range(1, 60) if n not in kept)
    write_image(tmp_path / "other" / "a.png", scene(9))
    (tmp_path / "other" / "b.png").write_bytes((tmp_path / "in" / f"{left_out:03}.png").read_bytes())
    with pytest.raises(BadData, match=r"--held-out holds what is calibrated on: b\.png"):
        check_apart(tmp_path / "set", tmp_path / "other")
