"""How much of the engine's own rate is left when real video goes through the whole frame path.

    python tests/bench/frame_path.py BUNDLE [--clip FILE] [--rounds 7] [--frames 400]

Runs, alternating so that a noisy machine disturbs all alike: the bare engine (one thread, the same input
again and again), the pipeline (`--pace fastest`: decode, scale, infer, decode boxes, track, events), and a
plain loop that does the same work in one thread. Prints the median of the rates and of their ratios to the
bare runs before and after. Without --clip the sample clip is brought to 1080p H.264 first (kept in
out/bench/).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from agent.assembly import build_pipeline
from agent.backends import Engine, open_engine
from agent.bundle import Bundle, load_bundle
from agent.capture import open_source
from agent.config import Detect
from agent.daemon import GIL_SWITCH_S
from agent.mailbox import Mailbox
from agent.overlap import Overlap

if TYPE_CHECKING:
    from agent.pipeline import Pipeline

SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "sample.mp4"


def main() -> int:
    """Run the rounds and print the table."""
    args = _arguments()
    bundle = load_bundle(args.bundle)
    artifact = bundle.artifact("tflite")
    engine = open_engine(bundle.file(artifact), precision=artifact.precision, threads=args.threads)
    clip = args.clip or full_hd(SAMPLE, Path("out/bench/sample-1080p.mp4"))
    sys.setswitchinterval(GIL_SWITCH_S)
    print(f"{bundle.manifest.name} on {engine.info.backend}, {args.threads} thread(s), {clip.name}")
    rates: dict[str, list[float]] = {"bare": [bare_rate(engine, args.frames)], "pipeline": [], "plain": []}
    ratios: dict[str, list[float]] = {"pipeline": [], "plain": []}
    for number in range(args.rounds):
        for name, run in (("pipeline", pipeline_rate), ("plain", plain_rate)):
            rates[name].append(run(bundle, engine, clip, args.frames))
            before = rates["bare"][-1]
            rates["bare"].append(bare_rate(engine, args.frames))
            ratios[name].append(2 * rates[name][-1] / (before + rates["bare"][-1]))
        print(
            f"  round {number + 1}: " + ", ".join(f"{n} {r[-1]:.3f}" for n, r in ratios.items()), flush=True
        )
    for name, values in rates.items():
        ratio = ratios.get(name)
        share = (
            f"  {statistics.median(ratio):.3f} of bare ({min(ratio):.3f} to {max(ratio):.3f})"
            if ratio
            else ""
        )
        print(f"{name:9} {statistics.median(values):7.1f} frames/s{share}")
    return 0


def bare_rate(engine: Engine, frames: int) -> float:
    """Inferences a second of the engine alone."""
    spec = engine.input
    tensor = np.zeros(spec.shape, spec.dtype)
    begin_s = time.perf_counter()
    for _ in range(frames):
        engine.infer(tensor)
    return frames / (time.perf_counter() - begin_s)


class _Timed:
    """Stages that count: the clock runs from the first prepared to the last finished frame."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.begin_s = self.end_s = 0.0
        self.frames = 0

    def prepare(self, frame):
        self.begin_s = self.begin_s or time.perf_counter()
        return self._pipeline.prepare(frame)

    def finish(self, frame, geometry, outputs):
        self._pipeline.finish(frame, geometry, outputs)
        self.frames += 1
        self.end_s = time.perf_counter()

    @property
    def rate_hz(self) -> float:
        return self.frames / (self.end_s - self.begin_s)


def pipeline_rate(bundle: Bundle, engine: Engine, clip: Path, frames: int) -> float:
    """Frames a second of the product's own frame path."""
    bell = threading.Condition()
    mailbox = Mailbox(bell, blocking=True)
    source = open_source(str(clip), camera="bench", pace="fastest")
    stages = _Timed(build_pipeline(bundle, engine, Detect(), camera="bench"))

    def capture() -> None:
        for frame in source.frames():
            if frame.seq >= frames:
                break
            mailbox.put(frame)
        mailbox.close()

    thread = threading.Thread(target=capture)
    thread.start()
    Overlap([(mailbox, stages)], engine, bell, eager=True).run()
    thread.join()
    source.close()
    return stages.rate_hz


def plain_rate(bundle: Bundle, engine: Engine, clip: Path, frames: int) -> float:
    """Frames a second of one loop that does one thing after the other."""
    source = open_source(str(clip), camera="bench", pace="fastest")
    stages = _Timed(build_pipeline(bundle, engine, Detect(), camera="bench"))
    for frame in source.frames():
        if frame.seq >= frames:
            break
        prepared = stages.prepare(frame)
        stages.finish(frame, prepared.geometry, engine.infer(prepared.tensor))
    source.close()
    return stages.rate_hz


def full_hd(clip: Path, out: Path) -> Path:
    """Return `clip` as 1920x1080 H.264 (CABAC, one slice, GOP 50, as cameras send it), twice over."""
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.mp4")
    with av.open(str(part), "w") as writer:
        stream = writer.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.gop_size = 50
        stream.bit_rate = 4_000_000
        stream.options = {"preset": "veryfast", "x264-params": "sliced-threads=0:bframes=0"}
        number = 0
        for _ in range(2):
            with av.open(str(clip)) as reader:
                for picture in reader.decode(video=0):
                    scaled = picture.reformat(1920, 1080)
                    scaled.pts, scaled.time_base = number, Fraction(1, 25)
                    writer.mux(stream.encode(scaled))
                    number += 1
        writer.mux(stream.encode(None))
    return part.rename(out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
