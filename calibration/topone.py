"""How far a classifier's best labels agree with a reference's, or with the truth."""

from __future__ import annotations

import csv
import itertools
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import BadData, InputMissing
from calibration.bootstrap import Figure, share
from calibration.flicker import MIN_STEPS, NEXT_S, Moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.messages import Detections


def best(found: Detections) -> int:
    """Return the class that scores most, -1 where none scores."""
    return int(found.class_id[0]) if len(found) else -1


def same(reference: Sequence[Detections], candidate: Sequence[Detections]) -> Figure | None:
    """Return on which share of the frames both have the same best label."""
    equal = [float(best(a) == best(b)) for a, b in zip(reference, candidate, strict=True)]
    return share(np.array(equal), np.ones(len(equal)))


def right(candidate: Sequence[Detections], truth: Sequence[int | None]) -> Figure | None:
    """Return the top-1 accuracy over the frames whose `truth` (class) is known."""
    known = [(best(found), label) for found, label in zip(candidate, truth, strict=True) if label is not None]
    return share(np.array([float(a == b) for a, b in known]), np.ones(len(known)))


def score_shift(reference: Sequence[Detections], candidate: Sequence[Detections]) -> Figure | None:
    """Return by how much `candidate` scores the reference's best label higher, in the mean."""
    both = [
        (float(b.score[b.class_id == best(a)][0] - a.score[0]))
        for a, b in zip(reference, candidate, strict=True)
        if best(a) in b.class_id
    ]
    return share(np.array(both), np.ones(len(both)))


def flicker(frames: Sequence[Detections], moments: Sequence[Moment]) -> Figure | None:
    """Return how often the best label of a clip changes from one frame to the next, NEXT_S apart at most.

    None when there are fewer than MIN_STEPS.
    """
    changes = [
        float(best(frames[i]) != best(frames[j]))
        for i, j in itertools.pairwise(range(len(frames)))
        if moments[i].clip == moments[j].clip and 0 < moments[j].pts_s - moments[i].pts_s <= NEXT_S
    ]
    return share(np.array(changes), np.ones(len(changes))) if len(changes) >= MIN_STEPS else None


def check_labels(path: Path) -> dict[str, str] | None:
    """Return the label of each file that a CSV names; None for a folder. Raises as `read_truth`."""
    if not path.exists():
        raise InputMissing("no labels", seen=path, fix="give a CSV of file,label, or the folder of clips")
    return None if path.is_dir() else _from_csv(path)


def read_truth(path: Path, clips: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Return the class of each of `clips` (paths below the folder of clips), None where nothing is told.

    `path` is a CSV of two columns, file and label, or a directory: a file's label is then its folder's name.
    Raises InputMissing, BadData.
    """
    told = check_labels(path)
    number = {name: class_id for class_id, name in enumerate(names)}
    truth = [_label_of(clip, told) for clip in clips]
    known = [label for label in truth if label is not None]
    if strange := [label for label in known if label not in number]:
        seen, fix = strange[0], f"the model has {', '.join(names[:10])}"
        raise BadData(f"{path}: a label that the model does not have", seen=seen, fix=fix)
    if not known:
        fix = "name the files as they are below the folder of clips"
        raise BadData(
            f"{path} has a label for none of the clips", seen=clips[0] if clips else "none", fix=fix
        )
    return [None if label is None else number[label] for label in truth]


def _label_of(clip: str, told: Mapping[str, str] | None) -> str | None:
    folder, _, name = clip.rpartition("/")
    if told is None:
        return folder.rpartition("/")[2] or None
    return told.get(clip, told.get(name))


def _from_csv(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{path} is no CSV", seen=error, fix="write file,label on each line") from None
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            fix = "write file,label on each line"
            raise BadData(f"{path}, row {number}", seen=f"{len(row)} columns", fix=fix)
    return {file.strip(): label.strip() for file, label in rows}
