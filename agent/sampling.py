"""Which frames are inferred, decided before any of them is converted, and what that choice can miss."""

from __future__ import annotations

import logging
from collections import deque
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING, Protocol

from agent.luma import block_means, changed_share
from agent.messages import SamplingReport

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from agent.config import Sampling
    from agent.luma import Luma

_log = logging.getLogger(__name__)

_EARLY = 0.25  # a frame counts for its slot when it comes this share of a period early: sources jitter
_NEAREST = 0.5  # two kept frames are never closer than this share of a period
_HOLD_S = 1.0  # once something moves, it is followed at full rate for this long


class Sampler(Protocol):
    """Decides frame by frame, in order; `time_s` is the frame's time on the logic clock."""

    def keep(self, time_s: float, luma: Callable[[], Luma | None]) -> bool:
        """Tell whether to infer this frame. `luma` is called only when the picture has a say (`luma_of`)."""
        ...


def full_rate() -> float:
    """Be a budget that is never short."""
    return 1.0


def make_sampler(options: Sampling, budget: Callable[[], float] = full_rate) -> Sampler:
    """Return the sampler of `options.mode`; `budget` tells the share of its rate it may use, above 0 to 1."""
    if options.mode == "uniform":
        return _Uniform(options.hz, budget)
    if options.mode == "interval":
        return _Interval(options.every_n, budget)
    return _Motion(options, budget)


class _Grid:
    """At most one frame a period, in the mean exactly one where the source gives more.

    The grid keeps its phase while a frame is less than a period late (25 fps at 10 Hz is 10.0 Hz, not 8.3)
    and restarts after a longer gap or a jump back. It is the virtual scheduling algorithm of ITU-T I.371
    (GCRA).
    """

    def __init__(self, hz: float, budget: Callable[[], float]) -> None:
        self._period_s, self._budget = 1.0 / hz, budget
        self._due_s: float | None = None
        self._taken_s = 0.0

    def due(self, time_s: float) -> bool:
        """Tell whether a frame at `time_s` may be taken."""
        period_s = self._period_s / self._budget()
        if self._due_s is None or time_s < self._taken_s - period_s:
            return True
        late_s = time_s - self._due_s + 1e-9
        return late_s >= -_EARLY * period_s and time_s - self._taken_s >= _NEAREST * period_s

    def take(self, time_s: float) -> None:
        """Use the slot that `time_s` is in."""
        grid_s = time_s if self._due_s is None or time_s < self._taken_s else self._due_s
        period_s = self._period_s / self._budget()
        self._due_s = max(grid_s, time_s - period_s) + period_s
        self._taken_s = time_s


class _Uniform:
    """At most `hz`, on an even grid."""

    def __init__(self, hz: float, budget: Callable[[], float]) -> None:
        self._grid = _Grid(hz, budget)

    def keep(self, time_s: float, luma: Callable[[], Luma | None]) -> bool:  # noqa: ARG002 - the Protocol's
        if not self._grid.due(time_s):
            return False
        self._grid.take(time_s)
        return True


class _Interval:
    """Every n-th frame, the first included; of these the budget's share, evenly."""

    def __init__(self, every_n: int, budget: Callable[[], float]) -> None:
        self._every_n, self._budget = every_n, budget
        self._credit = float(every_n)

    def keep(self, time_s: float, luma: Callable[[], Luma | None]) -> bool:  # noqa: ARG002 - the Protocol's
        kept = self._credit >= self._every_n - 1e-9
        self._credit += self._budget() - kept * self._every_n
        return kept


class _Motion:
    """`max_hz` while the picture changes, `min_hz` while it does not.

    Compared with the last kept frame, not with a background: the question is whether the model has seen
    this picture. A slow object adds up until it counts, one that stopped costs nothing, and there is
    nothing to learn.
    """

    def __init__(self, options: Sampling, budget: Callable[[], float]) -> None:
        self._fast, self._budget = _Grid(options.max_hz, budget), budget
        self._longest_s = 1.0 / options.min_hz
        self._kept_s = 0.0
        self._share = options.threshold
        self._reference: NDArray[np.float32] | None = None
        self._moved_s: float | None = None
        self._warned = False

    def keep(self, time_s: float, luma: Callable[[], Luma | None]) -> bool:
        if not self._fast.due(time_s):
            return False
        blocks = self._blocks(luma())
        if blocks is None or self._reference is None or changed_share(blocks, self._reference) >= self._share:
            self._moved_s = time_s
        held = self._moved_s is not None and 0 <= time_s - self._moved_s < _HOLD_S
        if not held and abs(time_s - self._kept_s) < self._longest_s / self._budget():
            return False
        self._fast.take(time_s)
        self._kept_s, self._reference = time_s, blocks
        return True

    def _blocks(self, luma: Luma | None) -> NDArray[np.float32] | None:
        if luma is not None:
            return block_means(luma)
        if not self._warned:
            self._warned = True
            _log.warning(
                "motion sampling can't read the luma of this pixel format: every frame counts as motion"
            )
        return None


def miss_window_s(
    options: Sampling, source_hz: float, inference_s: float = 0.0, budget: float = 1.0
) -> float:
    """Bound the time in seconds that an object can be in view without being in an inferred frame.

    Infinite while the rate of the source is not known (0). The gap between two kept frames is at most the
    period and one frame of the source; in `motion` the period of `min_hz`, for an object too small or too
    faint to count. An engine still busy when a frame is kept takes the newest one when it is done: a frame
    then waited up to one `inference_s` and the next one is up to another newer. `budget` is the share of the rate
    that is used. Stalls of the source are not in it: they are measured (`RateMeter`).
    """
    if source_hz <= 0:
        return inf
    frame_s = 1.0 / source_hz
    if options.mode == "interval":
        frames = options.every_n / budget
        widest_s, nearest_s = ceil(frames) * frame_s, int(frames) * frame_s
    else:
        slow, fast = (options.hz,) * 2 if options.mode == "uniform" else (options.min_hz, options.max_hz)
        widest_s, nearest_s = 1.0 / (slow * budget) + frame_s, max(_NEAREST / (fast * budget), frame_s)
    if inference_s <= nearest_s:
        return widest_s
    return max(widest_s, inference_s + min(inference_s, widest_s))


class RateMeter:
    """What sampling, drops and a slow engine together really give, over the last `window_s` of logic time."""

    def __init__(
        self, options: Sampling, *, window_s: float = 30.0, budget: Callable[[], float] = full_rate
    ) -> None:
        self._options, self._window_s, self._budget = options, window_s, budget
        self._done: deque[tuple[float, float, float]] = deque()  # frame's time, gap before it, inference time

    def inferred(self, time_s: float, inference_s: float) -> None:
        """Note that the frame at `time_s` was inferred, in `inference_s` (0.0 where the source waits)."""
        if self._done and time_s < self._done[-1][0]:
            self._done.clear()
        self._done.append((time_s, time_s - self._done[-1][0] if self._done else 0.0, inference_s))
        while time_s - self._done[0][0] > self._window_s:
            self._done.popleft()

    def report(self, source_hz: float, now_s: float | None = None) -> SamplingReport:
        """Return the rate, and as miss window the bound, or the worst gap where that was wider; from any thread.

        They are as of `now_s` of the logic clock, by default of the last frame: what has not come since then
        counts once it is later than usual.
        """
        done = list(self._done)  # in one go: another thread may be in `inferred`
        late_s = now_s - done[-1][0] if now_s is not None and done else 0.0
        if now_s is not None:
            done = [each for each in done if now_s - each[0] <= self._window_s]
        span_s = done[-1][0] - done[0][0] if done else 0.0
        if now_s is not None and len(done) > 1:
            usual_s = span_s / (len(done) - 1)
            span_s = max(span_s, now_s - done[0][0] - usual_s)
        slowest_s = max((took_s for _, _, took_s in done), default=0.0)
        worst_s = max((gap_s for _, gap_s, _ in done), default=0.0)
        worst_s = max(worst_s, late_s)
        window_s = max(miss_window_s(self._options, source_hz, slowest_s, self._budget()), worst_s)
        effective_hz = (len(done) - 1) / span_s if span_s > 0 else 0.0
        return SamplingReport(self._options.mode, effective_hz, window_s if isfinite(window_s) else None)
