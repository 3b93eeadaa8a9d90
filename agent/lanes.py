"""What the inference loop has in hand: the lanes of the cameras, the jobs on them, and how long each stage takes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.mailbox import Mailbox
    from agent.messages import Frame, Geometry, ModelInput

_SMOOTHING = 0.1
"""Weight of the newest sample in the running means of the stage times."""


class Stages(Protocol):
    """What is done for a frame before and after the network."""

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine."""
        ...

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> object:
        """Use the outputs."""
        ...


@dataclass(slots=True, eq=False)
class Lane:
    """One camera's way through the engine. `done` is set when all it ever got is finished."""

    mailbox: Mailbox
    stages: Stages
    done: threading.Event = field(default_factory=threading.Event)
    served: int = 0
    in_work: int = 0


@dataclass(slots=True, eq=False)
class Job:
    """A frame on its way through the network; the engine thread sets `outputs` or `fault`."""

    frame: Frame
    lane: Lane
    prepared: ModelInput
    outputs: tuple[NDArray[Any], ...] | None = None
    fault: Exception | None = None

    @property
    def done(self) -> bool:
        """The network has run."""
        return self.outputs is not None or self.fault is not None


@dataclass(slots=True)
class StageTimes:
    """Running means, seconds; 0.0 before the first frame."""

    prepare_s: float = 0.0
    infer_s: float = 0.0
    finish_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From taking a frame to knowing its events."""
        return self.prepare_s + self.infer_s + self.finish_s


def running_mean(mean: float, sample: float) -> float:
    """Return `mean` moved towards `sample`; 0.0 is no mean yet."""
    return mean + _SMOOTHING * (sample - mean) if mean else sample
