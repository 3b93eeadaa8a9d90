"""From a float model and the user's clips to a bundle whose INT8 is proven: `edge-calibrate build`, top to bottom."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import __version__
from agent.backends import open_engine
from agent.bundle.files import digest_of
from agent.bundle.golden import dump_golden
from agent.bundle.writing import check_free
from calibration.building.apart import check_apart
from calibration.building.draft import read_draft
from calibration.building.finishing import Finished, check_enough, finish
from calibration.building.fitting import check_fit
from calibration.building.floatnet import Origin, float_network
from calibration.building.golden import make_golden, pixels_of
from calibration.building.onnxparts import onnx_parts
from calibration.building.reporting import Parts
from calibration.building.scoring import measured_by, scorer
from calibration.building.workfolder import WorkFolder, digest
from calibration.environments import environment
from calibration.footage import Footage
from calibration.inference import float_inputs
from calibration.pictures import open_pictures
from calibration.quantize.calibrate import calibrate
from calibration.quantize.search import search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.bundle import Bundle, InputSpec
    from calibration.environments import Environment
    from calibration.pictures import Picture, PictureSet
    from calibration.quantize.curve import Curve

    Progress = Callable[[str, int, int], None]

FIT_PICTURES = 24
"""Pictures that the manifest is tried on, with every colour order and range."""
EQUALIZE_PICTURES = 64
"""Pictures that the ranges of channels are taken from."""
PROBES = 8
"""Pictures that the damage of each layer is measured on."""
SCORE_PICTURES = 100
"""Most pictures that each candidate of the search is scored on."""
QDQ_PICTURES = 32
"""The same of the Q/DQ form, which ONNX Runtime runs slowly."""
SEARCH_MARGIN = 0.4
"""The search aims this far from the floor to 1: on 64 pictures with 150 objects, an F1 of 0.94 lies between 0.91 and
0.97 with 95 % certainty (bootstrap; CenterNet), so above a floor of 0.90."""
MARGIN = 0.8
"""The Q/DQ form aims this far from the floor to 1: its pictures are known, and those of the measurement are new."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for; `floor` and `size` replace the manifest's."""

    model: Path
    manifest: Path
    clips: Path
    held_out: Path | None
    out: Path
    work: Path
    python: Path | None = None
    floor: float | None = None
    size: tuple[int, int] | None = None
    count: int = 300
    as_is: bool = False


def build(order: Order, progress: Progress) -> Finished:
    """Make the bundle. Every stage's result is kept in `order.work`, where a second call goes on.

    `progress` is told what is being done, how far it is, and of how much (0: unknown). `order.out` appears whole
    when the INT8 .tflite reaches the floor on pictures it never saw, or not at all. Raises AgentError.
    """
    check_free(order.out)
    draft = read_draft(order.manifest, size=order.size, floor=order.floor)
    if order.held_out:
        check_apart(order.clips, order.held_out)
    work = WorkFolder(order.work)
    with work.alone():
        return _built(order, draft, work, progress)


def _built(order: Order, draft: Bundle, work: WorkFolder, progress: Progress) -> Finished:
    def say(what: str) -> None:
        progress(what, 0, 0)

    pictures = open_pictures(order.clips, work=work.path, count=order.count, progress=progress)
    seen = pictures if order.held_out else pictures.part("calibrate")
    footage = Footage(order.held_out or pictures.folder, order.count)
    origin = Origin(order.model, order.size is not None, order.python)
    network = float_network(origin, draft, spread(seen, EQUALIZE_PICTURES), work, say)
    with closing(open_engine(network.tflite, precision="fp32", threads=1)) as engine:
        if not order.as_is:
            say("trying the manifest on some pictures")
            check_fit(draft, engine, list(pixels_of(draft.manifest, spread(seen, FIT_PICTURES))))
        golden = dump_golden(make_golden(draft.manifest, engine, seen.pictures))
    check_enough(draft, network.tflite, footage)
    quantizer = environment("quantizer", python=order.python, progress=say)
    floor = draft.manifest.accuracy.floor
    aim = floor + MARGIN * (1 - floor)
    search_aim = floor + SEARCH_MARGIN * (1 - floor)
    curve = _int8(draft, network.tflite, seen, search_aim, quantizer, work, progress)
    scored = spread(seen, QDQ_PICTURES)
    forms = onnx_parts(network.onnx, draft, seen.pictures, scored, aim, work, say)
    parts = Parts(order.model, network, forms, curve, quantizer, golden, seen, search_aim)
    return finish(order.out, draft, parts, footage, work.path, lambda done: progress("measuring", done, 0))


def spread(pictures: PictureSet, most: int) -> list[Picture]:
    """Return `most` of the pictures, evenly spread; all if they are fewer."""
    step = max(1, -(-len(pictures.pictures) // most))
    return list(pictures.pictures[::step])


def _int8(
    draft: Bundle,
    tflite: Path,
    seen: PictureSet,
    floor: float,
    quantizer: Environment,
    work: WorkFolder,
    progress: Progress,
) -> Curve:
    """Return the trade-off of the INT8 network, searched on the pictures `seen`."""
    manifest = draft.manifest
    key = digest([__version__, digest_of(tflite), repr(manifest.input), seen.digest])
    searched = digest([key, measured_by(draft), quantizer.versions])
    statistics = calibrate(
        tflite,
        float_inputs(draft, seen.pictures, "nhwc"),
        work.path,
        key=key,
        progress=lambda done: progress("calibrating", done, len(seen.pictures)),
    )
    return search(
        tflite,
        statistics,
        scorer(draft, tflite, spread(seen, SCORE_PICTURES), decisions=True),
        floor=floor,
        probes=list(float_inputs(draft, spread(seen, PROBES), "nhwc")),
        work=work.path / f"int8-{searched[:16]}",
        environment=quantizer,
        input_range=_input_range(manifest.input),
        progress=progress,
    )


def _input_range(spec: InputSpec) -> tuple[float, float]:
    """Return the least and the largest real value that a pixel can become."""
    ends = [(pixel - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True) for pixel in (0, 255)]
    return min(ends), max(ends)
