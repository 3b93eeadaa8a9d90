"""The figures of a report, its table, its picture and its files."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from agent.bench.output import Outputs
from agent.bench.plot import draw
from agent.bench.report import Report
from agent.bench.table import table
from agent.errors import CannotCreate
from tests.unit.bench.runs import report


def shown(found: Report) -> list[str]:
    """Return the lines of the table as a pipe gets them."""
    out = io.StringIO()
    Console(file=out, width=80).print(table(found))
    return out.getvalue().splitlines()


def test_the_figures_are_those_of_the_runs() -> None:
    """By hand: 95 and 80 of 100; 6 and 1 against 10 ms; 49 of 50; 24 of 25."""
    found = report()
    assert (found.engine_limit_fps, found.pipeline_fps, found.naive_fps) == pytest.approx((100, 87.5, 60))
    assert found.efficiency == pytest.approx(0.875)
    assert found.spreads["efficiency"].quiet_median == pytest.approx(0.95)
    assert found.spreads["efficiency"].quiet_rounds == 1
    assert (found.sampled_cpu_vs_naive, found.idle_cpu_vs_naive) == pytest.approx((0.6, 0.1))
    assert (found.idle_paced_cpu_ms_per_frame, found.idle_paced_cpu_vs_naive) == pytest.approx((2.0, 0.2))
    assert (found.grab_cpu_ms_per_frame, found.sampled_cpu_vs_grab) == pytest.approx((8.0, 0.75))
    assert (found.cameras_rate, found.fairness) == pytest.approx((0.98, 0.96))
    assert (found.startup_s, found.peak_rss_mb, found.rss_mb_per_further_camera) == (0.9, 118.0, 0.0)
    assert found.plain_fps is None
    assert found.age is not None
    assert found.age.p95_ms == 33.0


def test_without_opencv_the_plain_loop_stands_in_and_has_its_own_name() -> None:
    """No naive figure is made up."""
    found = report(opencv=False)
    assert (found.naive_fps, found.plain_fps) == (None, pytest.approx(60))
    assert (found.sampled_cpu_vs_naive, found.idle_cpu_vs_naive) == (None, None)
    assert found.sampled_cpu_ms_per_frame == pytest.approx(6.0)


def test_a_run_that_never_fell_idle_gives_no_figure_of_idle() -> None:
    """Neither in the document nor in the table, and a note says why; the other one stays."""
    found = report(not_decoded=49)
    assert (found.idle_paced_cpu_ms_per_frame, found.idle_paced_cpu_vs_naive) == (None, None)
    assert found.idle_cpu_vs_naive == pytest.approx(0.1)
    assert any("idle at camera pace" in note and "did not fall idle" in note for note in found.setting.notes)
    assert not any("idle at camera pace" in line for line in shown(found))
    assert report(not_decoded=50).setting.notes == ()


def test_what_was_stolen_may_not_be_known() -> None:
    """Then it is not said that no round was quiet."""
    assert any("not known" in line for line in shown(report(steal=None)))
    assert not any("not known" in line for line in shown(report()))


def test_one_camera_has_no_figures_of_several() -> None:
    """Not 1.0, which would look measured."""
    found = report(cameras=1)
    assert (found.cameras_rate, found.fairness, found.rss_mb_per_further_camera) == (None, None, None)


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize("cameras", [1, 64])
def test_the_table_fits_80_columns(opencv: bool, cameras: int) -> None:
    """No row is wrapped, and the disturbed rounds are told."""
    lines = shown(report(opencv=opencv, cameras=cameras))
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.startswith("efficiency"))
    assert row.split()[-5:] == ["0.875", "0.800", "to", "0.950", "0.950"]
    assert any(line.startswith("1 of 2 rounds") for line in lines)
    assert any(line.startswith("  idle at camera pace, ms a frame ") and " to " in line for line in lines)
    assert any("OpenCV loop with grab, ms a frame " in line and " to " in line for line in lines) is opencv
    assert ("OpenCV" in "".join(lines).replace("no OpenCV", "")) is opencv


def test_the_json_holds_everything(tmp_path: Path) -> None:
    """It can be read back as the same report, raw runs included."""
    path = tmp_path / "bench.json"
    found = report()
    Outputs(path, None).write(found)
    assert msgspec.json.decode(path.read_bytes(), type=Report) == found
    document = msgspec.json.decode(path.read_bytes())
    assert document["efficiency"] == pytest.approx(0.875)
    assert document["setting"]["engine"]["delegated_nodes"] == 1
    assert document["raw"]["rates"][1]["runs"]["pipeline"]["steal"] == 0.1


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize("cameras", [1, 4])
def test_the_picture_shows_the_figures(opencv: bool, cameras: int) -> None:
    """A PNG, of which the bar of the engine is as long as its scale says, and the pipeline's 0.875 of it."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    png = draw(cv2, report(opencv=opencv, cameras=cameras))
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 1000
    green = (picture == (94, 213, 60)).all(axis=2).sum(axis=1)
    orange = (picture == (48, 178, 255)).all(axis=2).sum(axis=1)
    engine = np.flatnonzero(orange > 100)[-1]  # the last panel with an engine's bar: the rates
    assert 500 < orange[engine] < 550, "the largest fills its track, but for a little"
    pipeline = green[engine : engine + 40].max()
    assert pipeline / orange[engine] == pytest.approx(0.875, abs=0.01)


@pytest.mark.parametrize("name", ["missing/bench.json", ".", "bench.json/x"])
def test_a_file_that_can_not_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, name: str
) -> None:
    """A run takes minutes."""
    (tmp_path / "bench.json").touch()
    with pytest.raises(CannotCreate):
        Outputs(tmp_path / name, None)


def test_a_picture_must_be_a_png(tmp_path: Path) -> None:
    """Whatever else OpenCV could write."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    with pytest.raises(CannotCreate, match=r"\.png"):
        Outputs(None, tmp_path / "plot.jpg")
