"""Whether a picture shows a scene: a covered lens, one colour, and the same picture again and again do not. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from av.video.frame import PictureType

from agent.luma import chroma_of, luma_of

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    Points = NDArray[np.uint8]

LOOK_S = 0.25
"""Pictures are looked at no more often."""
KEY_S = 0.5
"""As often a key frame is looked at out of turn."""
FROZEN_S = 5.0
"""So long nothing may move."""
MOVED = 2.0
"""Mean difference within one part of the picture, in grey levels, that is a movement."""
SAME, EXACT = 0.35, 0.02
"""Mean difference of two key frames of the same picture, at most, and of one that was coded alike.

x264 made at least 0.41 of a still scene with noise of 0.2 levels, at crf 23 to 45 and 100 to 800 kbit/s. After a
freeze it goes on refining the same picture: for 4 to 9 s at constant quality, longer at a low or constant bit rate.
Where every picture is a key frame (MJPEG, raw) the same picture is the same to the last bit; MJPEG made 0.1 of a still
scene with noise of 0.5 levels.
"""
SURE, SURE_OF = 2, 4
"""So many of the last differences of key frames must be that small, one of the last two among them; an exact one
counts for two."""
OTHER = 1.0
"""A mean difference that an encoder does not make of the same picture any more, once it has settled."""
_ROWS, _COLUMNS = 9, 16
_STRUCTURE = 1.2
"""Grey levels by which the parts of a picture that shows something differ, its noise taken out."""
_LAMP_POINTS, _LAMP_LEVELS, _LAMP_SIGMAS = 3, 20.0, 6.0
"""So many points in one part that stand out so far are a lamp; single ones are faulty pixels of the sensor."""
_DARK = 40.0
_TINT = 20.0
"""How far the chroma of a dark picture may be from grey."""
_GREY, _EMPTY_CHROMA = 128, 16
_EMPTY_SHARE, _GREY_SHARE, _GREY_PARTS = 0.25, 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a picture is not to be trusted; `kind` "" when it is."""

    kind: Literal["", "black", "low_entropy", "frozen"] = ""
    detail: str = ""


SOUND = Flaw()
BLACK = Flaw("black", "dark and without structure")
GREEN = Flaw("low_entropy", "green: parts of the picture are empty")
GREY = Flaw("low_entropy", "grey: what the picture builds on is lost")
PLAIN = Flaw("low_entropy", "one colour, without structure")
FROZEN = Flaw("frozen", "the same picture again and again")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Single points of a picture, not averaged, so that its noise is in them: luma (rows, columns), u and v.

    `chroma` is None where the format has none, or hides it.
    """

    luma: Points
    chroma: tuple[Points, Points] | None


def sample_of(picture: av.VideoFrame) -> Sample | None:
    """Copy the sample of `picture`, about 192 points across; None where its format hides the luma."""
    luma = luma_of(picture)
    return None if luma is None else Sample(luma.copy(), chroma_of(picture))


def flaw_of(sample: Sample) -> Flaw:
    """Judge one picture by itself.

    Structure is how much the means of 9 x 16 parts differ beyond what the noise within them explains. U and V
    near 0 lie outside of all colours a camera can give: such parts were never decoded. FFmpeg fills in
    references that it lost with 128, to the last bit: no wall in infrared light is that even.
    """
    luma = sample.luma
    if sample.chroma is not None:
        u, v = sample.chroma
        if np.count_nonzero((u < _EMPTY_CHROMA) & (v < _EMPTY_CHROMA)) >= _EMPTY_SHARE * u.size:
            return GREEN
        if min(map(_share_of_grey, (luma, u, v))) >= _GREY_SHARE and _empty_parts(luma) >= _GREY_PARTS:
            return GREY
    if min(luma.shape) < _COLUMNS or _structured(luma):
        return SOUND
    return BLACK if luma.mean() <= _DARK and not _tinted(sample) else PLAIN


class PictureWatch:
    """Looks at the pictures of one source as they come, a few times a second.

    Between key frames a codec may repeat a still scene to the last bit; each key frame codes its noise anew. So
    "frozen" takes key frames that are the same, and nothing that moves between them.
    """

    def __init__(self) -> None:
        self.flaw = SOUND
        self._looked_s = self._key_s = float("-inf")
        self._key: Points | None = None
        self._predicted = False
        self._still_since_s = 0.0
        self._same: deque[int] = deque(maxlen=SURE_OF)

    def see(self, picture: av.VideoFrame, now_s: float) -> None:
        """Note the next picture; afterwards `flaw` is what the last one that was looked at has."""
        key = picture.pict_type not in (PictureType.P, PictureType.B)
        self._predicted |= not key
        if 0 <= now_s - self._looked_s < LOOK_S and not (key and now_s - self._key_s >= KEY_S):
            return
        self._looked_s = now_s
        sample = sample_of(picture)
        if sample is None:
            self.flaw = SOUND
            return
        frozen = self._is_frozen(sample.luma, now_s, key=key)
        flaw = flaw_of(sample)
        self.flaw = FROZEN if frozen and not flaw.kind else flaw

    def _is_frozen(self, luma: Points, now_s: float, *, key: bool) -> bool:
        """Compare with the key frame before; go on with this one if it is one."""
        mean, most = _difference(luma, self._key)
        alike = most <= MOVED if self._predicted else mean == 0
        still = alike and now_s >= self._still_since_s
        if not still:
            self._still_since_s = now_s
        if not still or (key and mean > OTHER):
            self._same.clear()
        elif key:
            self._same.append((mean <= SAME) + (mean <= EXACT))
        if key:
            self._key, self._key_s = luma, now_s
        elif not still:
            self._key = None
        sure = sum(self._same) >= SURE and max(list(self._same)[-2:]) > 0
        return sure and self._key_s - self._still_since_s >= FROZEN_S


def _difference(luma: Points, other: Points | None) -> tuple[float, float]:
    """Return the mean difference of two samples, and that of the part which differs most."""
    if other is None or luma.shape != other.shape:
        return np.inf, np.inf
    off = np.abs(luma.astype(np.int16) - other)
    return float(off.mean()), float(_parts(off).mean(axis=1).max())


def _share_of_grey(points: Points) -> float:
    return float(np.count_nonzero((points >= _GREY - 1) & (points <= _GREY + 1)) / points.size)


def _empty_parts(luma: Points) -> float:
    return float((_parts(luma) == _GREY).all(axis=1).mean())


def _structured(luma: Points) -> bool:
    """Tell whether the parts of the picture differ, or a lamp shines in one."""
    parts = _parts(luma)
    means = parts.mean(axis=1)
    noise = float(np.median(np.einsum("ij,ij->i", parts, parts) / parts.shape[1] - means * means))
    if float(means.var()) - noise / parts.shape[1] > _STRUCTURE**2:
        return True
    lamp = parts > float(np.median(means)) + _LAMP_LEVELS + _LAMP_SIGMAS * max(0.0, noise) ** 0.5
    return int(np.count_nonzero(lamp, axis=1).max()) >= _LAMP_POINTS


def _tinted(sample: Sample) -> bool:
    return sample.chroma is not None and any(abs(float(c.mean()) - _GREY) > _TINT for c in sample.chroma)


def _parts(points: NDArray[Any]) -> NDArray[np.float32]:
    """Return the points of 9 x 16 parts as float32 (144, n); what is left over at the edges is left out."""
    rows, columns = min(_ROWS, points.shape[0]), min(_COLUMNS, points.shape[1])
    height, width = points.shape[0] // rows, points.shape[1] // columns
    whole = points[: height * rows, : width * columns].astype(np.float32)
    parts: NDArray[np.float32] = whole.reshape(rows, height, columns, width).swapaxes(1, 2)
    return parts.reshape(rows * columns, -1)
