"""Tracks as MOTChallenge text: one line a box, `frame,id,left,top,width,height,score,-1,-1,-1`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from agent.messages import Tracks


def mot_lines(seq: int, tracks: Tracks, size: tuple[int, int]) -> list[str]:
    """Return a line for each track that this very frame carries; coasting ones are no observation.

    `seq` is the frame's number from 0 (the format counts from 1), `size` its width and height in pixels.
    Format: Leal-Taixé et al., MOTChallenge 2015 (arXiv:1504.01942), 2D results.
    """
    width, height = size
    lines = []
    for row in tracks.matched.nonzero()[0]:
        x1, y1, x2, y2 = tracks.xyxy[row].tolist()
        left, top, wide, high = x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height
        box = f"{left:.2f},{top:.2f},{wide:.2f},{high:.2f}"
        lines.append(f"{seq + 1},{tracks.track_id[row]},{box},{tracks.score[row]:.4f},-1,-1,-1")
    return lines


class MotWriter:
    """Writes the lines of one frame after the other to an open text file, which stays the caller's."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, seq: int, tracks: Tracks, size: tuple[int, int]) -> None:
        """Append the tracks of frame `seq`. Raises OSError."""
        self._file.writelines(f"{line}\n" for line in mot_lines(seq, tracks, size))
