"""What a camera's observation means: its facts in a row, and advice where something should be otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.check.finding import Finding, fault, ok, warning

if TYPE_CHECKING:
    from agent.check.camera import Observation
    from agent.check.target import CameraTarget
    from agent.config import Sampling

SUBSTREAM_PX = (640, 360)
"""What cameras commonly offer as their second, small stream."""
LARGE_PX = 1920 * 1080
COSTLY_SHARE = 0.25
"""Of a core, for decoding one camera."""
_JITTER = 1.1
"""A distance of 2 s is measured as 1.9 to 2.1."""
LONG_GOP_S = 4.0
"""Cameras are commonly set to 1 to 4 s."""
IDLE_GOP_S = 2.0
"""Where key frames are all that is looked at while nothing moves, their distance is what can be missed."""
_RATE_TOLERANCE = 0.8
_GAP_SHARE = 0.05
"""Of the frames: cameras with a clock of their own skip one now and then."""


def judge(camera: CameraTarget, seen: Observation) -> list[Finding]:
    """Return the rows of `camera`: the first says what it sends, the others what to change."""
    what = camera.what
    if seen.frame is None:
        return [_no_picture(camera, seen)]
    if seen.stopped:
        text = f"{seen.frames} frames came, then none for the rest of {seen.watched_s:.0f} s"
        return [fault(what, text, fix="check the network, and whether the camera allows one more viewer")]
    return [
        ok(what, facts(seen)),
        *_size_advice(what, seen),
        *_stream_advice(camera, seen),
        *_rates(camera, seen),
    ]


def facts(seen: Observation) -> str:
    """Return one line: size, codec, rate, key frames, cost of decoding."""
    if seen.frame is None:
        return "no picture"
    width, height = seen.frame.size
    parts = [f"{width}x{height}{' ' + seen.codec if seen.codec else ''}", f"{seen.rate_hz:.3g} fps"]
    if seen.key_frames_only:
        parts.append("key frames only")
    elif seen.gop_s is not None:
        parts.append(f"a key frame every {seen.gop_s:.2g} s")
    if seen.decode_ms:
        work = (
            "decoding" if seen.codec else "handling"
        )  # a pipeline or driver of its own may decode elsewhere
        parts.append(f"{work} {seen.decode_ms:.1f} ms/frame")
    return ", ".join(parts)


def decode_share(seen: Observation) -> float:
    """Return the share of one core that decoding takes."""
    return seen.decode_ms * seen.rate_hz / 1e3


def asked_hz(sampling: Sampling, rate_hz: float) -> float:
    """Return how many inferences a second `sampling` asks for at most, of a camera with `rate_hz`."""
    if sampling.mode == "interval":
        return rate_hz / sampling.every_n
    return min(rate_hz, sampling.hz if sampling.mode == "uniform" else sampling.max_hz)


def _no_picture(camera: CameraTarget, seen: Observation) -> Finding:
    waiting = seen.stats.waited_for_key_frame
    limit_s = camera.stream.stall_timeout_s
    if waiting:
        text = f"connected, {waiting} packets, no key frame within {limit_s:g} s"
        return warning(camera.what, text, fix="set the camera's key frame (I-frame) interval to 1 or 2 s")
    return fault(
        camera.what,
        f"connected, no picture within {limit_s:g} s",
        fix="look at the camera's own web page; restart it, or try its other stream",
    )


def _size_advice(what: str, seen: Observation) -> list[Finding]:
    if seen.frame is None:
        return []
    (width, height), share = seen.frame.size, decode_share(seen)
    times = width * height / (SUBSTREAM_PX[0] * SUBSTREAM_PX[1])
    if times <= 1 or (width * height <= LARGE_PX and share <= COSTLY_SHARE):
        return []
    small = f"{SUBSTREAM_PX[0]}x{SUBSTREAM_PX[1]}"
    return [
        warning(
            what,
            f"{width}x{height} has {times:.0f} times the pixels of {small}; decoding takes {share:.2f} of a core",
            fix=f"use the camera's substream: {width}x{height} costs about {times:.0f} times more than {small}",
        )
    ]


def _stream_advice(camera: CameraTarget, seen: Observation) -> list[Finding]:
    rows, stats, what = _key_frames(camera, seen), seen.stats, camera.what
    damage = {"bad packets": stats.undecodable_packets, "dropped as too late": stats.late_packets}
    if stats.gaps > seen.frames * _GAP_SHARE:
        damage["gaps"] = stats.gaps
    if seen.live and any(damage.values()):
        text = ", ".join(f"{count} {name}" for name, count in damage.items() if count)
        rows.append(warning(what, text, fix='use rtsp_transport = "tcp", a cable, or a lower bit rate'))
    if stats.reconnects:
        text = f"the connection was lost {stats.reconnects} times while it was watched"
        rows.append(
            warning(what, text, fix="check the network, and whether the camera allows one more viewer")
        )
    return rows


def _key_frames(camera: CameraTarget, seen: Observation) -> list[Finding]:
    idle = camera.decode == "keyframes_when_idle"
    limit_s = (IDLE_GOP_S if idle else LONG_GOP_S) * _JITTER
    unseen = seen.live and seen.gop_s is None and not seen.key_frames_only and seen.watched_s > limit_s
    if not unseen and (seen.gop_s or 0.0) <= limit_s:
        return []
    distance = (
        f"more than {seen.watched_s:.0f} s apart" if seen.gop_s is None else f"every {seen.gop_s:.2g} s"
    )
    why = "while nothing moves, nothing else is looked at" if idle else "start and recovery wait for one"
    fix = f"set the camera's key frame (I-frame) interval to 1 or 2 s: {why}"
    return [warning(camera.what, f"key frames {distance}", fix=fix)]


def _rates(camera: CameraTarget, seen: Observation) -> list[Finding]:
    rows, sampling = [], camera.sampling
    if seen.live and 0 < seen.measured_hz < seen.declared_hz * _RATE_TOLERANCE:
        text = f"says {seen.declared_hz:.3g} fps, gives {seen.measured_hz:.3g}"
        rows.append(warning(camera.what, text, fix="more light (long exposures), or the camera's frame rate"))
    wanted_hz = {"uniform": sampling.hz, "motion": sampling.max_hz}.get(sampling.mode, 0.0)
    if 0 < seen.rate_hz < wanted_hz * _RATE_TOLERANCE:
        text = f"sampling asks for {wanted_hz:g} frames a second, the camera gives {seen.rate_hz:.3g}"
        rows.append(
            warning(camera.what, text, fix="raise the camera's frame rate or lower the sampling rate")
        )
    return rows
