"""What decoding only key frames in idle costs in event onsets, and what it saves.

    python -m tests.bench idle_decode [--shared ../shared] [--model BUNDLE] [CLIP ...]

Each clip is played twice, with `decode` "all" and "keyframes_when_idle", one thread, the model on at most 10 frames
a second, `busy` while a track is alive. Printed for each: onsets (event "new") with "all"; how many of them come
within 1 s at the same place in idle decoding too; onsets that only idle decoding has; how much later the found
ones are known (median, worst; their own times do not differ by that: what waited is decoded at once); packets not
decoded; CPU seconds of reading, decoding and comparing, without the model; wakes by motion/sizes/busy/overdue.

The clips, by default: the sample clip; with ../shared also PETS S2L1 as H.264 with a key frame every 20 frames,
one-by-one as it is (a key frame every 10), and two made of it as cameras send it (noise of a sensor, a key frame
every 50 frames): "visits" is mostly idle, people come in and leave at random times; "nobody" is its empty stretch
at 1080p and 25 frames a second. The thresholds were chosen on visits. Made clips are kept in out/bench/.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from agent.assembly import build_pipeline, open_model
from agent.capture import SourceStats, StreamOptions
from agent.capture.stream import StreamSource
from agent.config import Detect, Sampling
from agent.luma import luma_of
from agent.sampling import make_sampler
from agent.starter import starter_bundle
from agent.stationary import iou

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.messages import Event

SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "sample.mp4"
OUT = Path("out/bench")
WITHIN_S = 1.0
SAME_IOU = 0.1
MODES = ("all", "keyframes_when_idle")
# Of one-by-one, in frames at 10 a second: nobody there; people who come in, and who leave again.
EMPTY = (5, 45)
VISITS = (
    ((50, 90), (170, 215)), ((220, 250), (425, 465)), ((490, 545), (650, 715)),
    ((735, 780), (840, 880)), ((1220, 1260), (1330, 1370)),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What one pass over a clip gave; `told_s`: how much of the clip was read when each onset was known."""

    onsets: list[Event]
    told_s: dict[str, float]
    stats: SourceStats
    cpu_s: float


def main() -> int:
    """Print the table."""
    args = _arguments()
    bundle, engine = open_model(args.model, threads=2)
    print(f"{bundle.manifest.name}; onsets found within {WITHIN_S:g} s, IoU {SAME_IOU:g}")
    print(
        f"{'clip':12} {'onsets':>6} {'found':>5} {'recall':>6} {'extra':>5} {'later_s':>11} {'skipped':>7} "
        f"{'idle_s':>6} {'cpu_s':>11} {'wakes m/s/b/o':>13}"
    )
    for clip in args.clips or _clips(args.shared):
        full, idle = (play(clip, bundle, engine, decode) for decode in MODES)
        print(row(clip.stem, full, idle), flush=True)
    return 0


def row(name: str, full: Run, idle: Run) -> str:
    """Return a line of the table."""
    pairs = match(full.onsets, idle.onsets)
    later_s = [idle.told_s[other.event_id] - full.told_s[event.event_id] for event, other in pairs]
    late = f"{statistics.median(later_s):5.2f} {max(later_s):5.2f}" if later_s else "-"
    stats, onsets = idle.stats, len(full.onsets)
    wakes = "/".join(map(str, (stats.wakes_motion, stats.wakes_sizes, stats.wakes_busy, stats.wakes_overdue)))
    return (
        f"{name[:12]:12} {onsets:6} {len(pairs):5} {len(pairs) / onsets if onsets else 1:6.2f} "
        f"{len(idle.onsets) - len(pairs):5} {late:>11} {stats.packets_not_decoded / stats.packets:7.2f} "
        f"{stats.idle_s:6.1f} {full.cpu_s:5.2f} {idle.cpu_s:5.2f} {wakes:>13}"
    )


def match(wanted: list[Event], found: list[Event]) -> list[tuple[Event, Event]]:
    """Pair onsets of the same label and place that are at most WITHIN_S apart, nearest in time first."""
    near = [
        (abs(a.time_s - b.time_s), i, j)
        for (i, a), (j, b) in itertools.product(enumerate(wanted), enumerate(found))
        if abs(a.time_s - b.time_s) <= WITHIN_S and a.label == b.label and iou(a.box, b.box) >= SAME_IOU
    ]
    pairs: list[tuple[Event, Event]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, i, j in sorted(near):
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            pairs.append((wanted[i], found[j]))
    return pairs


def play(clip: Path, bundle: Bundle, engine: Engine, decode: str) -> Run:
    """Run the whole chain over `clip`, each inference done before the next packet is read."""
    alive = False
    source = StreamSource(
        str(clip),
        camera="bench",
        pace="fastest",
        options=StreamOptions(decode=decode, busy=lambda: alive),
    )
    source.open()
    pipeline = build_pipeline(bundle, engine, Detect(), camera="bench")
    sampler = make_sampler(Sampling(mode="uniform", hz=10.0))
    onsets: list[Event] = []
    told_s: dict[str, float] = {}
    frames, cpu_s = source.frames(), 0.0
    while True:
        began_s = time.thread_time()
        frame = next(frames, None)
        cpu_s += time.thread_time() - began_s
        if frame is None:
            return Run(onsets, told_s, source.stats, cpu_s)
        if sampler.keep(frame.time_s, partial(luma_of, frame.picture)):
            prepared = pipeline.prepare(frame)
            result = pipeline.finish(frame, prepared.geometry, engine.infer(prepared.tensor))
            alive = len(result.tracks) > 0
            new = [event for event in result.events if event.type == "new"]
            onsets += new
            read_s = source.stats.packets / source.frame_rate_hz
            told_s.update((event.event_id, read_s) for event in new)


def _clips(shared: Path) -> list[Path]:
    video = shared / "data" / "video"
    if not video.is_dir():
        print(f"{video} is not there: the sample clip alone")
        return [SAMPLE]
    one_by_one, pets = video / "one-by-one-person-detection.mp4", video / "vtest_pets09_s2l1.avi"
    return [
        one_by_one,
        made(
            OUT / "pets.mp4", lambda: (p.to_ndarray(format="yuv420p") for p in _decoded(pets)), fps=10, gop=20
        ),
        SAMPLE,
        made(OUT / "visits.mp4", lambda: visits(one_by_one), fps=20, gop=50),
        made(OUT / "nobody.mp4", lambda: nobody(one_by_one), fps=25, gop=50),
    ]


def visits(one_by_one: Path, *, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield 1280x720 pictures, 20 a second: mostly nobody."""
    scenes, dice, order = list(_decoded(one_by_one)), random.Random(seed), []
    for visit in (*VISITS, None):
        order += itertools.islice(_empty(), 10 * dice.randrange(20, 60))
        if visit is not None:
            order += [*range(*visit[0]), *range(*visit[1])]
    return grainy((scenes[number] for number in order for _ in range(2)), (1280, 720), seed)


def nobody(one_by_one: Path, *, frames: int = 1500, seed: int = 2) -> Iterator[NDArray[np.uint8]]:
    """Yield 1920x1080 pictures of nobody."""
    scenes = list(itertools.islice(_decoded(one_by_one), EMPTY[1]))
    return grainy((scenes[number] for number in itertools.islice(_empty(), frames)), (1920, 1080), seed)


def _empty() -> Iterator[int]:
    return itertools.cycle([*range(*EMPTY), *range(EMPTY[1] - 2, EMPTY[0], -1)])


def grainy(scenes: Iterable[av.VideoFrame], size: tuple[int, int], seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield yuv420p pictures as a sensor sees them: noise of 3 grey levels, light that wavers by 0.5 %."""
    (width, height), numbers = size, np.random.default_rng(seed)
    grains = [numbers.normal(0, 3, (height, width)).astype(np.float32) for _ in range(16)]
    for number, scene in enumerate(scenes):
        picture = scene.reformat(width, height).to_ndarray(format="yuv420p")
        light = 1 + 0.005 * np.sin(number / 60)
        grain = np.roll(grains[numbers.integers(16)], int(numbers.integers(width * height)))
        picture[:height] = np.clip(picture[:height] * light + grain, 0, 255)
        yield picture


def made(path: Path, pictures, *, fps: int, gop: int) -> Path:
    """Encode yuv420p pictures as a camera does (no B-frames, fixed GOP), unless `path` is there."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w") as writer:
        stream = writer.add_stream("libx264", rate=fps)
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", gop
        stream.options = {"preset": "veryfast", "crf": "25", "x264-params": "bframes=0:scenecut=0"}
        for number, planes in enumerate(pictures()):
            if number == 0:
                stream.width, stream.height = planes.shape[1], planes.shape[0] * 2 // 3
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            writer.mux(stream.encode(picture))
        writer.mux(stream.encode(None))
    return part.rename(path)


def _decoded(clip: Path) -> Iterable[av.VideoFrame]:
    with av.open(str(clip)) as container:
        yield from container.decode(video=0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="*", metavar="CLIP")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", type=Path, default=starter_bundle(), help="default: the starter")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
