"""`edge-agent demo`: the main job on the sample clip, with a broker and a subscriber of its own.

The agent runs as it would for a user: a child process, `edge-agent run`, that knows nothing of the demo.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import av
from rich.console import Console

from agent import contactsheet
from agent.demo.broker import running_broker
from agent.demo.play import CAMERA, DEVICE, Seen, play
from agent.demo.view import View
from agent.errors import CannotCreate, InputMissing
from agent.starter import sample_clip, starter_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.capture import Pace
    from agent.demo.broker import Broker, BrokerKind

_NEXT = "run --source rtsp://user:password@camera/stream --broker mqtt://broker --label person"
_LABELS = ("person",)
"""What the sample clip is about, of the 80 labels of the starter."""


def run_demo(
    out: Path,
    *,
    clip: Path | None = None,
    model: Path | None = None,
    pace: Pace = "realtime",
    broker: BrokerKind = "auto",
    console: Console | None = None,
) -> int:
    """Play `clip` through `model`, show each event as a subscriber gets it, return the agent's exit code.

    Leaves in `out` events.jsonl (the payloads as received) and contact-sheet.png (each event's best frame).
    All children are ended before it returns or raises. Raises AgentError.
    """
    labels = _LABELS if clip is None and model is None else ()
    clip, model = clip or sample_clip(), model or starter_bundle()
    console = console or Console(highlight=False)
    drawing = _opencv_fault()
    with ExitStack() as stack:
        stack.enter_context(_signals_end_the_block())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-agent-demo-")))
        record = stack.enter_context(_record(out))
        server = stack.enter_context(running_broker(folder, broker))
        duration_s, frames = _length(clip)
        console.print(f"{clip.name}, {duration_s:.0f} s -> {model.name} -> {server.name} -> a subscriber\n")
        detections = folder / "detections.jsonl"
        command = agent_command(clip, model, server, pace=pace, state=folder, detections=detections)
        command += [word for label in labels for word in ("--label", label)]
        view = View(console, duration_s=duration_s, realtime=pace == "realtime")
        with view.bar:
            seen, code, error = play(command, server, view, record)
        inferred = _lines(detections)
    if code:
        Console(stderr=True, highlight=False).print(
            f"edge-agent: error: {error}", markup=False, soft_wrap=True
        )
        return code
    _summary(console, seen, inferred=inferred, frames=frames)
    _results(console, out, clip, seen, drawing)
    console.print(f"\nNext, your own camera and broker:\n  {_program()} {_NEXT}", soft_wrap=True)
    return 0


def agent_command(
    clip: Path, model: Path, broker: Broker, *, pace: Pace, state: Path, detections: Path
) -> list[str]:
    """Return the command line of the agent, as a user could type it."""
    command = [sys.executable, "-m", "agent", "run", "--source", str(clip), "--model", str(model)]
    command += ["--broker", broker.url, "--pace", pace, "--camera", CAMERA, "--device", DEVICE]
    return [*command, "--state", str(state / "state"), "--detections", str(detections)]


@contextmanager
def _record(out: Path) -> Iterator[IO[bytes]]:
    path = out / "events.jsonl"
    try:
        out.mkdir(parents=True, exist_ok=True)
        record = path.open("wb", buffering=0)
    except OSError as error:
        raise CannotCreate(str(path), seen=error.strerror, fix="name a writable folder by --out") from error
    with record:
        yield record


@contextmanager
def _signals_end_the_block() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this program by way of its `finally`s, so that no child is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _opencv_fault() -> InputMissing | None:
    try:
        contactsheet.require_opencv()
    except InputMissing as error:
        return error
    return None


def _length(clip: Path) -> tuple[float, int]:
    """Return duration in seconds and number of frames, as far as the container tells."""
    try:
        with av.open(str(clip)) as container:
            return (container.duration or 0) / av.time_base, container.streams.video[0].frames
    except (av.FFmpegError, IndexError):
        return 0.0, 0  # the agent will say what is wrong with it


def _summary(console: Console, seen: Seen, *, inferred: int, frames: int) -> None:
    types = [event.type for event in seen.events]
    counts = ", ".join(f"{types.count(kind)} {kind}" for kind in ("new", "update", "end"))
    console.print(f"\n{len(types)} events ({counts}), {seen.duplicates} duplicates")
    model = seen.events[0].model if seen.events else None
    by = f" by {model.name} {model.precision} on {model.backend}" if model else ""
    console.print(f"{inferred} of {frames} frames inferred{by}")


def _results(console: Console, out: Path, clip: Path, seen: Seen, drawing: InputMissing | None) -> None:
    console.print(f"{out / 'events.jsonl'}: each event as the subscriber received it", soft_wrap=True)
    if drawing is not None:
        console.print(f"No contact sheet: {drawing}", style="yellow", markup=False, soft_wrap=True)
    elif seen.events:
        sheet = out / "contact-sheet.png"
        contactsheet.write(sheet, clip, contactsheet.moments(seen.events), **_titles(seen, clip))
        console.print(f"{sheet}: each event's best frame", soft_wrap=True)


def _titles(seen: Seen, clip: Path) -> dict[str, str]:
    model, moments = seen.events[0].model, len({event.event_id for event in seen.events})
    return {
        "title": f"edge-agent demo: {moments} events",
        "subtitle": f"{clip.name}   {model.name} {model.precision}, {model.backend}",
    }


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _program() -> str:
    """Return how this program is called here: by its name, by its path, or as a module."""
    beside = Path(sys.executable).parent / "edge-agent"
    if shutil.which("edge-agent"):
        return "edge-agent"
    return os.path.relpath(beside) if beside.exists() else f"{sys.executable} -m agent"
