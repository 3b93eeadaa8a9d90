"""`edge-agent clips record` with real streams: a camera that is lost and back, signals, a full disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import av
import numpy as np

from tests.e2e.cameras.http_server import HttpServer
from tests.e2e.cameras.rtsp import RtspCamera
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command."""
    command = [sys.executable, "-m", "agent", "clips", "record", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return once it is; fail when the process has ended."""
    end_s = time.monotonic() + HANGS_S
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.05)


def clips(folder: Path) -> list[Path]:
    """Return the clips that are there."""
    return sorted(folder.glob("*.mkv"))


def frames(clip: Path) -> list[av.VideoFrame]:
    """Return all pictures of a clip."""
    with av.open(str(clip)) as container:
        return list(container.decode(video=0))


def test_a_camera_that_was_lost_is_recorded_again(tmp_path):
    """What was taken before is whole; the clip that is being taken at SIGTERM is kept."""
    with RtspCamera() as camera:
        config = tmp_path / "config.toml"
        config.write_text(f'[[camera]]\nname = "yard"\nsource = "{camera.url}"\nstall_timeout_s = 2.0\n')
        config.chmod(0o600)
        process = start("--config", str(config), "--out", str(tmp_path / "out"), "--for", "15m", "--json")
        yard = tmp_path / "out" / "yard"
        wait_for(lambda: clips(yard), process)
        camera.kill()
        time.sleep(1.0)
        camera.start()
        before = len(clips(yard))
        wait_for(lambda: len(clips(yard)) > before, process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, err
    told = json.loads(out)["cameras"][0]
    assert told["clips"] == len(clips(yard)) >= 2
    assert all(len(frames(clip)) > 5 for clip in clips(yard))
    assert not list(yard.glob(".*"))


def test_an_endless_http_camera_is_recorded_until_sigint(tmp_path):
    """Its JPEGs are kept as they are."""
    with HttpServer() as server:
        process = start("--source", server.url("live"), "--out", str(tmp_path), "--for", "15m")
        wait_for(lambda: clips(tmp_path / "camera"), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, err
    clip, *_ = clips(tmp_path / "camera")
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
    assert len(frames(clip)) > 10
    assert "camera" in out


def test_the_time_is_over(tmp_path):
    """It ends by itself."""
    with HttpServer() as server:
        process = start("--source", server.url("live"), "--out", str(tmp_path), "--for", "6s")
        _, err = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, err
    assert len(clips(tmp_path / "camera")) == 1


def test_a_full_disk_ends_it_with_one_line(tmp_path):
    """A limit on the size of files stands in for it: the same path, another errno."""
    source = tmp_path / "noise.mkv"
    random = np.random.default_rng(0)
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for n in range(50):
            noise = random.integers(0, 100, (360, 320)) + np.arange(320) // 80 * 50
            frame = av.VideoFrame.from_ndarray(noise.clip(0, 255).astype(np.uint8), format="yuv420p")
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    script = f"ulimit -f 64; exec {sys.executable} -m agent clips record --source {source} --out {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 74
    assert done.stderr.count("\n") == 1
    assert "can't keep clips in" in done.stderr
    assert not list((tmp_path / "out" / "camera").iterdir())


def test_what_makes_no_sense_is_refused_before_anything_is_opened(tmp_path):
    """One line each, with the code of its kind."""
    for arguments, code, text in (
        (("--source", "none.mp4"), 66, "no such file"),
        (("--source", "x.mp4", "--for", "soon"), 2, "write it like 30s"),
        (("--source", "x.mp4", "--quota", "3MB"), 2, "at least 10 MB"),
        (("--source", "x.mp4", "--camera", "a/b"), 78, "--camera"),
        (("--config", str(tmp_path / "none.toml")), 66, "no such file"),
    ):
        process = start(*arguments, "--out", str(tmp_path / "out"))
        out, err = process.communicate(timeout=HANGS_S)
        assert (process.returncode, out) == (code, ""), err
        assert text in err
        assert err.count("\n") == 1
