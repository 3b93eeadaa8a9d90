"""`edge-calibrate clips` on real clips and photos."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from calibration.clips.choosing import spread
from calibration.clips.pictureset import SetRecord, read_record
from calibration.clips.scanning import scan
from calibration.clips.selecting import select, table_of
from calibration.clips.sources import find
from calibration.clips.units import units_of
from calibration.pictures import open_pictures

DATA = Path(__file__).parents[3] / "shared" / "data"
LIMIT_S = 300.0

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the test data in ../shared (real clips and photos)"),
    pytest.mark.timeout(1800),
]


def command(*arguments: object) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "calibration", "clips", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=LIMIT_S, check=False)


def bins(brightness: np.ndarray, motion: np.ndarray) -> set[tuple[int, int]]:
    """Return which of 16 x 10 bins of brightness and motion are covered."""
    return {(int(b // 16), min(9, int(m * 10))) for b, m in zip(brightness, motion, strict=True)}


def test_real_clips_are_covered_better_than_by_a_uniform_sample(tmp_path):
    """Day, night and blur of PETS, a street, cars, a corridor: the calibration part beside as many taken evenly."""
    sources, _ = find([DATA / "video"])
    units = units_of([scan(source, tmp_path) for source in sources])
    table = table_of(units)
    choice = select(units, table, 90)
    assert choice.cut is None
    first = np.flatnonzero(~np.isin(table.clip, sorted(choice.held)))
    uniform = first[np.linspace(0, len(first) - 1, len(choice.calibrate)).astype(int)]
    covered, far = {}, {}
    for name, rows in (("ours", choice.calibrate), ("uniform", uniform), ("all", first)):
        covered[name] = len(bins(table.looks.brightness[rows], table.looks.motion[rows]))
        far[name] = spread(table.space[first], np.searchsorted(first, rows))
    print({name: (covered[name], f"{far[name].max():.2f}", f"{far[name].mean():.2f}") for name in covered})
    assert covered["ours"] > 1.2 * covered["uniform"]
    assert far["ours"].max() < 0.7 * far["uniform"].max()


def test_photos_and_clips_become_a_set(tmp_path):
    """--json prints the record alone; the set opens; a second run refuses to write over it."""
    out = tmp_path / "set"
    sources = DATA / "images/coco_train64", DATA / "video/asl"
    done = run(*sources, "--out", out, "--count", 60, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["calibrate"], record["verify"]) == (40, 20)
    opened = open_pictures(out, work=tmp_path / "unused")
    assert opened.digest == record["digest"]
    assert not {p.clip for p in opened.part("calibrate").pictures} & {
        p.clip for p in opened.part("verify").pictures
    }
    assert sorted(p.name for p in out.iterdir()) == ["pictures", "report.html", "set.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    again = run(*sources, "--out", out)
    assert again.returncode == 73
    assert "is there already" in again.stderr


def stopped_at_work(source: Path, out: Path, stop: signal.Signals) -> tuple[int, str]:
    """Send `stop` to a run when it has looked at some more files; return its code, and what it said."""
    process = subprocess.Popen(
        command(source, "--out", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    scans, end_s = out.with_name(".set.scans"), time.monotonic() + LIMIT_S
    before = len(list(scans.glob("*.npz")))
    while process.poll() is None and len(list(scans.glob("*.npz"))) < before + 10:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    process.send_signal(stop)
    _, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, err


def test_a_run_that_was_killed_or_interrupted_goes_on(tmp_path):
    """The set appears whole or not at all, and is the same as without an interruption."""
    source, out = DATA / "images/coco_train64", tmp_path / "set"
    for stop, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        done, err = stopped_at_work(source, out, stop)
        for _ in range(4):
            if done != 0:
                break
            shutil.rmtree(out)  # it was quicker than the signal: once more, from nothing
            done, err = stopped_at_work(source, out, stop)
        assert done == code, err
        assert "Traceback" not in err
        assert ("interrupted; run it again to go on" in err) == (stop == signal.SIGINT)
        assert not out.exists()
        assert (tmp_path / ".set.part" / "pictures").is_dir()
    assert run(source, "--out", out).returncode == 0
    whole = run(source, "--out", tmp_path / "other", "--json")
    assert read_record(out) == read_record(tmp_path / "other")
    assert json.loads(whole.stdout)["digest"] == read_record(out).digest


def test_no_space_is_one_line(tmp_path):
    """A limit on the size of files stands in for a full disk; what is there afterwards is no set."""
    line = " ".join(command(DATA / "images/coco_train64", "--out", tmp_path / "set"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 64; exec {line}"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 73
    assert "can't write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "set").exists()


def test_the_table_is_readable_in_a_pipe(tmp_path):
    """Eighty columns, and how many went where; what was skipped is named on standard error."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.mp4").write_bytes(b"\0" * 5000)
    done = run(DATA / "video/asl", tmp_path / "in", "--out", tmp_path / "set", "--count", 40)
    assert done.returncode == 0, done.stderr
    assert all(len(line) <= 80 or line.startswith(str(tmp_path)) for line in done.stdout.splitlines())
    assert "to calibrate on" in done.stdout
    assert "skipped: 1 file" in " ".join(done.stdout.split())
    assert "in/broken.mp4: skipped: not a playable video" in done.stderr


def test_the_record_of_a_set_holds_no_place_and_no_time(tmp_path):
    """Two sets of the same clips, made elsewhere at another time, are the same byte for byte."""
    for name in ("a", "b"):
        assert run(DATA / "video/asl", "--out", tmp_path / name, "--count", 40).returncode == 0
    for name in ("set.json", "report.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert isinstance(read_record(tmp_path / "a"), SetRecord)
    assert str(tmp_path) not in (tmp_path / "a" / "set.json").read_text()


def test_what_the_recorder_took_becomes_a_set(tmp_path):
    """Clips by day and by night, kept as the camera sent them, from the one command into the other."""
    for name, file in (("day", "one-by-one-person-detection.mp4"), ("night", "drift/pets_night.mp4")):
        record = [sys.executable, "-m", "agent", "clips", "record", "--out", str(tmp_path / "taken")]
        options = ["--source", str(DATA / "video" / file), "--camera", name, "--for", "10m"]
        subprocess.run([*record, *options], check=True, capture_output=True, timeout=LIMIT_S)
    assert len(list((tmp_path / "taken" / "day").glob("*.mkv"))) >= 3
    done = run(tmp_path / "taken", "--out", tmp_path / "set", "--count", 60, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["skipped"] == []
    assert record["cut"] == ""
    assert {clip["split"] for clip in record["clips"]} == {"calibrate", "verify"}
    brightness = [picture["brightness"] for picture in record["pictures"]]
    assert min(brightness) < 50 < 100 < max(brightness)
