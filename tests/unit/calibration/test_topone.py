"""Figures of classifiers, and where their labels come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import BadData, InputMissing
from calibration import topone
from calibration.flicker import Moment
from tests.unit.calibration.detections import found

NAMES = ("cat", "dog", "hot dog")


def says(*classes: int) -> object:
    """Return what a classifier says, the best first."""
    return found(*((0, 0, 1, 1, 0.9 - 0.2 * n, class_id) for n, class_id in enumerate(classes)))


def test_same_best_label() -> None:
    """Agreement is on the best label alone."""
    same = topone.same([says(0, 1), says(1)], [says(0), says(0, 1)])
    assert same is not None
    assert same.value == 0.5


def test_accuracy_is_over_what_is_known() -> None:
    """A picture without a label does not count."""
    right = topone.right([says(0), says(1), says(2)], [0, None, 1])
    assert right is not None
    assert right.value == 0.5


def test_shift_is_that_of_the_references_best() -> None:
    """The candidate's score of the same label, wherever it ranks it."""
    shift = topone.score_shift([says(0, 1)], [says(1, 0)])
    assert shift is not None
    assert shift.value == pytest.approx(-0.2)


def test_flicker_is_a_change_of_the_best_label() -> None:
    """One change in three steps, in each of seven clips; in one clip alone it says nothing."""
    moments = [Moment(clip, 0.2 * n) for clip in "abcdefg" for n in range(4)]
    said = [says(0), says(0), says(1), says(1)]
    assert topone.flicker(said, moments[:4]) is None
    seen = topone.flicker(said * 7, moments)
    assert seen is not None
    assert seen.value == pytest.approx(1 / 3)


def test_labels_by_csv_and_by_folder(tmp_path: Path) -> None:
    """A CSV names files, by path or by name; a folder's name is the label of what lies in it."""
    table = tmp_path / "labels.csv"
    table.write_text("x.jpg,cat\nsub/y.jpg,hot dog\n")
    assert topone.read_truth(table, ["a/x.jpg", "sub/y.jpg", "z.jpg"], NAMES) == [0, 2, None]
    assert topone.read_truth(tmp_path, ["dog/x.jpg", "set/hot dog/y.jpg", "z.jpg"], NAMES) == [1, 2, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x.jpg,wolf\n", "a label that the model does not have: wolf; the model has cat, dog, hot dog"),
        ("x.jpg\n", "row 1: 1 columns; write file,label on each line"),
        ("other.jpg,cat\n", "has a label for none of the clips: x.jpg"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, text: str, says: str) -> None:
    """What is wrong with a CSV is told in a line."""
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(BadData) as fault:
        topone.read_truth(table, ["x.jpg"], NAMES)
    assert says in str(fault.value)


def test_missing_labels(tmp_path: Path) -> None:
    """A path that is neither a file nor a folder is missing."""
    with pytest.raises(InputMissing):
        topone.read_truth(tmp_path / "none", ["x.jpg"], NAMES)
