"""How old a frame is when a subscriber has its event, over RTSP, with an engine slower than the stream.

    python tests/bench/latency.py [--seconds 60] [--fps 25] [--engine-ms 120]

An RTSP camera on loopback plays the sample clip for ever, each frame with its capture time burnt in as a
strip that survives the codec. The agent (the starter model, delayed to --engine-ms) publishes to a real
mosquitto; a subscriber notes when each event arrives. Age = arrival - time in the strip of the frame the
event was decided on: true time, not the agent's own word for it (which is printed beside it). Growing lag
would show in the last quarter of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import paho.mqtt.client as mqtt

from agent import daemon, engines
from agent.assembly import open_model
from agent.config import CameraConfig, Config, Detect
from agent.luma import luma_of
from agent.mqtt.options import MqttOptions
from agent.runoptions import RunOptions
from agent.starter import sample_clip, starter_bundle
from tests.e2e.brokers import mosquitto
from tests.e2e.cameras import strip
from tests.e2e.cameras.rtsp import RtspCamera

if TYPE_CHECKING:
    from agent.pipeline import Result


_AGES = ("decided_ms", "age_ms", "told_ms")


@dataclass(frozen=True)
class Sample:
    """One event as the subscriber got it: when (seconds since the first), and the age of its frame.

    `age_ms` when it arrived, `decided_ms` when it was decided, both against the strip; `told_ms` is
    `decided_ms` in the agent's own words, which can't know what went before the stream.
    """

    at_s: float
    type: str
    age_ms: float
    decided_ms: float
    told_ms: float


class SlowEngine:
    """A real engine that takes `engine_s` for each inference, as a smaller board would."""

    def __init__(self, engine: Any, engine_s: float) -> None:
        self._engine, self._engine_s = engine, engine_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, tensor: Any) -> Any:
        end_s = time.monotonic() + self._engine_s
        outputs = self._engine.infer(tensor)
        time.sleep(max(0.0, end_s - time.monotonic()))
        return outputs


def clip_scene(clip: Path) -> Any:
    """Return a scene that plays `clip` again and again."""
    with av.open(str(clip)) as container:
        lumas = [np.array(luma_of(picture, 1)) for picture in container.decode(video=0)]
    return lambda _width, _height, number: lumas[number % len(lumas)].copy()


def measure(*, seconds: float, fps: int, engine_ms: float) -> list[Sample]:
    """Run camera, broker, agent and subscriber for `seconds`; return a sample for each event received."""
    burnt_us: dict[int, int] = {}
    arrived: list[tuple[float, dict[str, Any]]] = []

    def read_strip(result: Result) -> None:
        luma = luma_of(result.frame.picture, 1)
        if luma is not None and (read := strip.read(luma)) is not None:
            burnt_us[result.frame.seq] = read[1]

    clip = sample_clip()
    with av.open(str(clip)) as container:
        size = container.streams.video[0].width, container.streams.video[0].height
    with (
        tempfile.TemporaryDirectory() as folder,
        mosquitto(Path(folder)) as broker,
        RtspCamera(size=size, fps=fps, gop=fps, scene=clip_scene(clip)) as camera,
    ):
        subscriber = _subscribe(broker.port, arrived)
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        bundle, engine = open_model(starter_bundle(), threads=1)
        real = engines.open_model
        engines.open_model = lambda *_args, **_more: (bundle, SlowEngine(engine, engine_ms / 1e3))
        try:
            daemon.run(
                RunOptions(
                    config=Config(
                        camera=(CameraConfig(name="camera", source=camera.url),),
                        device="latency",
                        state_dir=str(Path(folder) / "state"),
                        detect=Detect(update_s=0.2),
                    ),
                    broker=MqttOptions("127.0.0.1", broker.port),
                ),
                recorders=[read_strip],
            )
        finally:
            engines.open_model = real
            timer.cancel()
        subscriber.loop_stop()
    return _samples(arrived, burnt_us)


def _subscribe(port: int, arrived: list[tuple[float, dict[str, Any]]]) -> mqtt.Client:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    ready = threading.Event()
    client.on_message = lambda *a: arrived.append((time.monotonic(), json.loads(a[2].payload)))
    client.on_subscribe = lambda *_: ready.set()
    client.on_connect = lambda *_: client.subscribe("edge/latency/events/#", qos=1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not ready.wait(60):
        raise RuntimeError("the subscriber does not get its subscription")
    return client


def _samples(arrived: list[tuple[float, dict[str, Any]]], burnt_us: dict[int, int]) -> list[Sample]:
    fresh = [
        (at_s, event)
        for at_s, event in arrived
        if event["type"] != "end" and event["frame"]["seq"] in burnt_us
    ]
    return [_sample(at_s, fresh[0][0], event, burnt_us[event["frame"]["seq"]]) for at_s, event in fresh]


def _sample(at_s: float, first_s: float, event: dict[str, Any], burnt_us: int) -> Sample:
    told_ms, burnt_ms = event["frame"]["age_ms"], burnt_us / 1e3
    decided_ms = event["mono_ns"] / 1e6 - burnt_ms
    return Sample(at_s - first_s, event["type"], at_s * 1e3 - burnt_ms, decided_ms, told_ms)


def quantile(samples: list[Sample], share: float, of: str = "age_ms") -> float:
    """Return the quantile `share` of a field."""
    return float(np.quantile([getattr(sample, of) for sample in samples], share))


def last_quarter(samples: list[Sample]) -> list[Sample]:
    """Return the samples of the last quarter of the time."""
    return [sample for sample in samples if sample.at_s > 0.75 * samples[-1].at_s]


def first_quarter(samples: list[Sample]) -> list[Sample]:
    """Return the samples of the first quarter of the time."""
    return [sample for sample in samples if sample.at_s <= 0.25 * samples[-1].at_s]


def main() -> None:
    """Print the ages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--engine-ms", type=float, default=120)
    args = parser.parse_args()
    samples = measure(seconds=args.seconds, fps=args.fps, engine_ms=args.engine_ms)
    span_s = samples[-1].at_s
    print(f"{len(samples)} events in {span_s:.0f} s, stream {args.fps} fps, engine {args.engine_ms:.0f} ms")
    news = [sample for sample in samples if sample.type == "new"]
    updates = [sample for sample in samples if sample.type == "update"]
    print("age of the frame in ms, p50 / p95      when decided    when received    agent's word")
    for name, part in {
        "new": news,
        "update": updates,
        "all, first quarter": first_quarter(samples),
        "all, last quarter": last_quarter(samples),
    }.items():
        figures = [f"{quantile(part, 0.5, of):6.0f} /{quantile(part, 0.95, of):5.0f}" for of in _AGES]
        print(f"{name:20} {len(part):5} events   " + "    ".join(figures))


if __name__ == "__main__":
    main()
