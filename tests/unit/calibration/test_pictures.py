"""From a folder of clips and images to a set, and back."""

from __future__ import annotations

import logging
import os

import av
import msgspec
import numpy as np
import pytest

from agent.errors import BadData, CannotCreate, InputMissing, ServiceAway
from calibration.clips import making
from calibration.clips.pictureset import SetRecord, read_record
from calibration.pictures import load_frame, open_pictures
from tests.unit.calibration.scenes import scene, write_clip, write_image


def images(folder, count=40, first=0, level=110):
    """Write `count` images that differ from each other."""
    for n in range(first, first + count):
        write_image(folder / f"{n:03}.jpg", scene(n, level=level))
    return folder


def film(first, count=40, level=110):
    """Return pictures that all differ."""
    return [scene(first + n, level=level) for n in range(count)]


def test_images_become_a_set_and_are_copied_as_they_are(tmp_path):
    """A third to verify with; the digest is that of the files."""
    folder = images(tmp_path / "in")
    made = open_pictures(folder, work=tmp_path / "work")
    calibrate, verify = made.part("calibrate").pictures, made.part("verify").pictures
    assert len(calibrate) + len(verify) == 40
    assert len(verify) == 13
    assert not {p.clip for p in calibrate} & {p.clip for p in verify}
    for picture in made.pictures:
        assert picture.file.read_bytes() == (folder / picture.clip).read_bytes()
    assert made.digest == read_record(made.folder).digest
    assert made.part("verify").digest != made.digest


def test_a_clip_alone_is_cut_by_time_and_says_so(tmp_path):
    """With a gap, and the frame is the one that the clip has there."""
    clip = write_clip(tmp_path / "in" / "one.mp4", film(0, 60))
    made = open_pictures(tmp_path / "in", work=tmp_path / "work", count=30)
    assert read_record(made.folder).cut == "one.mp4"
    calibrate, verify = made.part("calibrate").pictures, made.part("verify").pictures
    assert max(p.seq for p in calibrate) + 5 < min(p.seq for p in verify)
    with av.open(str(clip)) as container:
        frames = [f.to_ndarray() for f in container.decode(video=0)]
    for picture in (*calibrate[:3], *verify[:3]):
        loaded = load_frame(picture)
        assert loaded.seq == picture.seq
        assert np.array_equal(loaded.picture.to_ndarray(), frames[picture.seq])


def test_several_clips_are_never_in_both_parts(tmp_path):
    """Dark and bright ones."""
    for n in range(6):
        write_clip(tmp_path / "in" / f"{n}.mkv", film(100 * n, 30, level=50 + 25 * n))
    made = open_pictures(tmp_path / "in", work=tmp_path / "work", count=60)
    assert not {p.clip for p in made.part("calibrate").pictures} & {
        p.clip for p in made.part("verify").pictures
    }
    assert read_record(made.folder).cut == ""
    assert len(made.pictures) == 60


def test_a_second_run_finds_the_set_and_a_fresh_one_makes_the_same(tmp_path):
    """The same files, chosen again elsewhere, have the same digest."""
    images(tmp_path / "in")
    write_clip(tmp_path / "in" / "clip.mp4", film(500))
    one = open_pictures(tmp_path / "in", work=tmp_path / "work", count=40)
    before = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")}
    assert open_pictures(tmp_path / "in", work=tmp_path / "work", count=40) == one
    assert {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")} == before
    other = open_pictures(tmp_path / "in", work=tmp_path / "other", count=40)
    assert other.digest == one.digest
    files = sorted(path.relative_to(one.folder) for path in one.folder.rglob("*") if path.is_file())
    assert [(one.folder / f).read_bytes() for f in files] == [(other.folder / f).read_bytes() for f in files]
    assert open_pictures(one.folder, work=tmp_path / "unused") == one


def test_a_run_that_was_killed_goes_on(tmp_path, monkeypatch):
    """What was kept stays, nothing looks like a set before it is one."""
    images(tmp_path / "in")
    write_clip(tmp_path / "in" / "clip.mp4", film(500))
    whole = open_pictures(tmp_path / "in", work=tmp_path / "whole", count=40)
    calls = []

    def stop_in_the_middle(what, done, of):
        calls.append(what)
        if what == "keeping pictures" and done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pictures(tmp_path / "in", work=tmp_path / "work", count=40, progress=stop_in_the_middle)
    assert not list((tmp_path / "work").glob("pictures-*"))
    half = list((tmp_path / "work").rglob("pictures/*"))
    assert len(half) >= 20
    before = {path.name: path.stat().st_mtime_ns for path in half}
    monkeypatch.setattr("calibration.clips.scanning._look_through", None)
    made = open_pictures(tmp_path / "in", work=tmp_path / "work", count=40)
    assert made.digest == whole.digest
    after = {p.file.name: p.file.stat().st_mtime_ns for p in made.pictures}
    assert before.items() <= after.items()


def test_what_can_not_be_used_is_named_skipped_and_counted(tmp_path, caplog):
    """A torn file, an empty one, a text, black ones, the same bytes twice; labels beside clips are none."""
    folder = images(tmp_path / "in")
    (folder / "torn.mp4").write_bytes(write_clip(tmp_path / "x.mp4", film(0, 9)).read_bytes()[:900])
    (folder / "empty.mkv").touch()
    (folder / "text.avi").write_text("hello\n" * 90)
    write_clip(folder / "black.mp4", [np.full((144, 192), 16, np.uint8)] * 20)
    (folder / "twice.jpg").write_bytes((folder / "003.jpg").read_bytes())
    (folder / "labels.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        made = open_pictures(folder, work=tmp_path / "work")
    record = read_record(made.folder)
    reasons = {one.file: one.reason for one in record.skipped}
    assert set(reasons) == {"torn.mp4", "empty.mkv", "text.avi", "black.mp4", "twice.jpg"}
    assert reasons["empty.mkv"] == "empty file"
    assert "black" in reasons["black.mp4"]
    assert reasons["twice.jpg"] == "the same bytes as 003.jpg"
    assert len(made.pictures) == 40
    assert "black.mp4: skipped: shows nothing: black" in caplog.text


def test_a_fault_of_the_machine_is_not_remembered(tmp_path, monkeypatch):
    """Too many open files in the first run; the second one looks again."""
    folder = images(tmp_path / "in")

    def fail(*_, **__):
        raise ServiceAway("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("calibration.clips.scanning.open_source", fail)
        with pytest.raises(BadData, match="too many open files"):
            open_pictures(folder, work=tmp_path / "work")
    assert len(open_pictures(folder, work=tmp_path / "work").pictures) == 40


def test_black_clips_alone_are_refused(tmp_path):
    """The error names them and says why."""
    for n in range(3):
        write_clip(tmp_path / "in" / f"{n}.mp4", [np.full((144, 192), 16 + n, np.uint8)] * 20)
    with pytest.raises(BadData, match=r"none of 3 files can be used: 0.mp4: shows nothing: black"):
        open_pictures(tmp_path / "in", work=tmp_path / "work")
    assert not list((tmp_path / "work").glob("pictures-*"))


def test_clips_of_one_and_the_same_picture_are_refused(tmp_path):
    """However often and however finely they were encoded."""
    for n, crf in enumerate((8, 14, 20)):
        write_clip(tmp_path / "in" / f"{n}.mp4", [scene(1)] * 50, crf=crf)
    with pytest.raises(BadData, match=r"too few different pictures: .* near-duplicates"):
        open_pictures(tmp_path / "in", work=tmp_path / "work")


def test_a_copy_that_was_encoded_anew_does_not_carry_pictures_over(tmp_path):
    """No picture to verify with is the like of one of the other part's clips."""
    for name, crf in (("a.mp4", 8), ("b.mp4", 16)):
        write_clip(tmp_path / "in" / name, film(0, 60), crf=crf)
    made = open_pictures(tmp_path / "in", work=tmp_path / "work", count=40)
    loaded = {p: load_frame(p).picture.to_ndarray().astype(int) for p in made.pictures}
    for held in made.part("verify").pictures:
        for other in made.part("calibrate").pictures:
            assert np.abs(loaded[held] - loaded[other]).mean() > 3


def test_images_that_are_a_film_are_one_clip(tmp_path):
    """Frames of one film in a folder would leak from one part into the other."""
    moving = [scene(5) for _ in range(50)]
    for n, luma in enumerate(moving):
        luma[20:60, 2 * n : 2 * n + 30] = 230
        write_image(tmp_path / "in" / f"frame_{n:03}.png", luma)
    images(tmp_path / "in" / "photos", 30, first=300)
    made = open_pictures(tmp_path / "in", work=tmp_path / "work")
    parts = {p.split for p in made.pictures if p.clip.startswith("frame_")}
    assert {p.clip for p in made.pictures if p.clip.startswith("frame_")} == {"frame_000.png"}
    assert len(parts) == 1


def test_too_little_is_refused_with_what_there_is(tmp_path):
    """A folder of three images, an empty one, one that is not there."""
    images(tmp_path / "in", 3)
    with pytest.raises(BadData, match="too few different pictures"):
        open_pictures(tmp_path / "in", work=tmp_path / "work")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissing, match="no clip and no image"):
        open_pictures(tmp_path / "empty", work=tmp_path / "work")
    with pytest.raises(InputMissing, match="no such clips"):
        open_pictures(tmp_path / "nowhere", work=tmp_path / "work")


def test_a_set_that_was_changed_is_refused(tmp_path):
    """A picture that is gone, one that is another, a set.json that is none."""
    made = open_pictures(images(tmp_path / "in"), work=tmp_path / "work")
    changed = made.pictures[0].file
    changed.write_bytes(made.pictures[1].file.read_bytes())
    with pytest.raises(BadData, match="has changed"):
        open_pictures(made.folder, work=tmp_path)
    changed.unlink()
    with pytest.raises(InputMissing, match="is gone"):
        open_pictures(made.folder, work=tmp_path)
    (made.folder / "set.json").write_text('{"schema": 1}')
    with pytest.raises(BadData, match="is no set of pictures"):
        open_pictures(made.folder, work=tmp_path)


def test_the_set_tells_where_every_picture_went(tmp_path):
    """Looked at = kept + left out, for each clip and in all; the page shows each picture."""
    images(tmp_path / "in")
    write_clip(tmp_path / "in" / "clip.mp4", film(500, 80))
    made = open_pictures(tmp_path / "in", work=tmp_path / "work", count=40)
    record = msgspec.json.decode((made.folder / "set.json").read_bytes(), type=SetRecord)
    for clip in record.clips:
        assert clip.looked_at == clip.kept + sum(clip.left_out.values())
    assert record.looked_at == 120 == 40 + sum(record.left_out.values())
    page = (made.folder / "report.html").read_text()
    assert page.count("<img ") == 40
    assert "http" not in page


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    """And a place that can't be written is one line."""
    (tmp_path / "out").mkdir()
    with pytest.raises(CannotCreate, match="is there already"):
        making.make_once([images(tmp_path / "in")], tmp_path / "out", count=40)
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreate, match="can't make"):
        making.make_once([tmp_path / "in"], tmp_path / "file" / "out", count=40)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_skipped(tmp_path):
    """It is named."""
    folder = images(tmp_path / "in")
    (folder / "000.jpg").chmod(0)
    made = open_pictures(folder, work=tmp_path / "work")
    assert [one.file for one in read_record(made.folder).skipped] == ["000.jpg"]


def test_a_clip_that_changes_while_it_is_read_is_told(tmp_path):
    """It was looked at, and is another one when its pictures are to be kept."""
    images(tmp_path / "in")
    clip = write_clip(tmp_path / "in" / "clip.mp4", film(500))

    def swap(what, done, of):
        if (what, done) == ("looking at clips", of):
            write_clip(clip, film(900, 5))

    with pytest.raises(
        BadData, match=r"a clip changed while it was read: clip.mp4: no frame \d+; run it again"
    ):
        open_pictures(tmp_path / "in", work=tmp_path / "work", progress=swap)
    assert not list((tmp_path / "work").glob("pictures-*"))
