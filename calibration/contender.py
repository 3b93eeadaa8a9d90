"""Several networks side by side: each sees every frame, and one that fails holds up none of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import AgentError
from calibration.flicker import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.messages import Detections, Frame
    from calibration.inference import Runner


class Contender:
    """One network on its way through the frames; `fault` says why it came to an end."""

    def __init__(self, name: str, open_it: Callable[[], Runner]) -> None:
        self.name, self.fault, self.backend = name, "", ""
        self.found: list[Detections] = []
        self._runner: Runner | None = None
        try:
            self._runner = open_it()
        except AgentError as error:
            self.fault = str(error)
        else:
            self.backend = self._runner.engine.info.backend

    def see(self, frame: Frame, min_score: float) -> None:
        """Keep what it detects in `frame`, unless it is out."""
        if self._runner is None:
            return
        try:
            self.found.append(self._runner.detect(frame, min_score))
        except AgentError as error:
            self.fault = str(error)
            self.close()

    def close(self) -> None:
        """Release the engine."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None


def see_all(
    contenders: Sequence[Contender],
    frames: Iterable[tuple[str, Frame]],
    min_score: float,
    progress: Callable[[int], None] | None,
) -> list[Moment]:
    """Show `frames` (name of the clip, frame) to all; return their moments. `progress` is told how many are done."""
    moments = []
    for clip, frame in frames:
        for contender in contenders:
            contender.see(frame, min_score)
        moments.append(Moment(clip, frame.pts_s))
        if progress:
            progress(len(moments))
    return moments
