"""Bad input to the command: one clear line, the documented exit code, no traceback, no hang, no secret."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.starter import PEOPLE, sample_clip, shipped_bundle
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
SHARED_MODELS = ROOT.parent / "shared" / "data" / "models"


def edge_agent(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "agent", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)


def complaint(done: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """Check that `done` ended with `code` and one line that holds `words`; return the line."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("edge-agent: error: ")
    for word in words:
        assert word in lines[0]
    return lines[0]


def run(tmp_path: Path, source: object, *more: object) -> subprocess.CompletedProcess[str]:
    """Run on `source` into a sink of the test's own."""
    return edge_agent(
        "run", "--source", source, "--sink", tmp_path / "events.jsonl", "--state", tmp_path / "state", *more
    )


def _missing(path: Path) -> None:
    pass


def _directory(path: Path) -> None:
    path.mkdir()


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("This is no video.\n" * 200)


def _noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(50_000))


def _truncated(path: Path) -> None:
    path.write_bytes(sample_clip().read_bytes()[:3000])


def _audio(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_missing, 66),
        (_directory, 65),
        (_empty, 65),
        (_text, 65),
        (_noise, 65),
        (_truncated, 65),
        (_audio, 65),
    ],
)
def test_a_file_that_is_no_video(make: Callable[[Path], None], code: int, tmp_path: Path) -> None:
    """Each kind of wrong file is named, with what to do."""
    clip = tmp_path / "clip.mp4"
    make(clip)
    complaint(run(tmp_path, clip), code, "clip.mp4")


class _Refusing(BaseHTTPRequestHandler):
    """Answers every request with the status in its path."""

    def do_GET(self) -> None:
        self.send_error(int(self.path.strip("/").split("/")[0]))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def http_server() -> Iterator[str]:
    """Yield host:port of a server that refuses."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(HANGS_S)


@pytest.mark.parametrize(("status", "code"), [(401, 77), (404, 66), (500, 69)])
def test_a_url_that_is_refused(status: int, code: int, tmp_path: Path) -> None:
    """HTTP errors become one line without the login."""
    with http_server() as address:
        done = run(tmp_path, f"http://admin:hunter2@{address}/{status}/clip.mp4")
    line = complaint(done, code)
    assert "hunter2" not in line


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_camera_that_is_not_there(scheme: str, tmp_path: Path) -> None:
    """A port nobody listens on is a camera that is away."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    line = complaint(run(tmp_path, f"{scheme}://admin:hunter2@127.0.0.1:{port}/cam"), 69, "127.0.0.1")
    assert "hunter2" not in line


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_camera_that_accepts_and_says_nothing(scheme: str, tmp_path: Path) -> None:
    """A server that hangs is given up in bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        complaint(run(tmp_path, f"{scheme}://127.0.0.1:{server.getsockname()[1]}/cam"), 69)


def test_an_unknown_scheme(tmp_path: Path) -> None:
    """A scheme nobody serves is a mistake on the command line."""
    complaint(run(tmp_path, "gopher://127.0.0.1/cam"), 2, "gopher")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of the network for people that a test may spoil."""
    return Path(shutil.copytree(shipped_bundle(PEOPLE), tmp_path / "bundle"))


def _replace_model(bundle: Path, content: bytes, name: str = "int8.tflite") -> None:
    """Put another file in the place of the model, with the manifest's size and hash to match."""
    manifest, old = (bundle / "model.toml").read_text(), (bundle / name).read_bytes()
    (bundle / name).write_bytes(content)
    manifest = manifest.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(content).hexdigest())
    (bundle / "model.toml").write_text(manifest.replace(f"bytes = {len(old)}", f"bytes = {len(content)}"))


def test_a_model_that_was_changed(bundle: Path, tmp_path: Path) -> None:
    """One flipped bit is found before anything runs."""
    model = bytearray((bundle / "int8.tflite").read_bytes())
    model[100_000] ^= 1
    (bundle / "int8.tflite").write_bytes(model)
    complaint(run(tmp_path, sample_clip(), "--model", bundle), 65, "int8.tflite", "sha256")


def test_a_model_that_is_not_what_the_manifest_says(bundle: Path, tmp_path: Path) -> None:
    """Other shapes than the manifest's are told with both values."""
    manifest = (bundle / "model.toml").read_text()
    (bundle / "model.toml").write_text(manifest.replace("width = 300", "width = 320"))
    complaint(run(tmp_path, sample_clip(), "--model", bundle), 65, "300", "320")


def test_a_model_that_is_no_model(bundle: Path, tmp_path: Path) -> None:
    """A file that is not a network is refused by the runtime; its words are in our one line."""
    _replace_model(bundle, b"not a flatbuffer " * 1000)
    complaint(run(tmp_path, sample_clip(), "--model", bundle), 65, "int8.tflite")


@pytest.mark.skipif(not SHARED_MODELS.is_dir(), reason="needs the unloadable model in ../shared")
def test_a_model_that_the_runtime_refuses(bundle: Path, tmp_path: Path) -> None:
    """A valid file that no runtime can load is told as such."""
    _replace_model(bundle, (SHARED_MODELS / "bad" / "person_detect_unloadable.tflite").read_bytes())
    complaint(run(tmp_path, sample_clip(), "--model", bundle), 65, "quantized_dimension")


def test_no_bundle(tmp_path: Path) -> None:
    """A path without a bundle is told before the camera is opened."""
    complaint(run(tmp_path, sample_clip(), "--model", tmp_path / "nothing"), 66, "nothing")


def test_a_bundle_of_files_that_are_not_there(tmp_path: Path) -> None:
    """`model add` names the one of its two files that is missing."""
    known = ROOT / "models" / "known" / "vww-96.toml"
    out = ["--out", tmp_path / "out"]
    done = edge_agent("model", "add", "--manifest", tmp_path / "m.toml", "--artifact", known, *out)
    complaint(done, 66, "manifest", "m.toml")
    done = edge_agent("model", "add", "--manifest", known, "--artifact", tmp_path / "x.tflite", *out)
    complaint(done, 66, "model file", "x.tflite")


def test_a_typo_in_the_manifest(bundle: Path, tmp_path: Path) -> None:
    """An unknown key is named, with the one that was meant."""
    manifest = (bundle / "model.toml").read_text()
    (bundle / "model.toml").write_text(manifest.replace("resize =", "resise ="))
    complaint(run(tmp_path, sample_clip(), "--model", bundle), 65, "resise", "resize")


def test_places_that_can_not_be_written(tmp_path: Path) -> None:
    """State directory, sink, detections and tracks: each says which path and why, and nothing was inferred."""
    wall = tmp_path / "wall"
    wall.write_text("a file where a directory should be")
    clip = sample_clip()
    complaint(
        edge_agent("run", "--source", clip, "--sink", wall / "x.jsonl", "--state", tmp_path), 73, "wall"
    )
    complaint(
        edge_agent("run", "--source", clip, "--sink", tmp_path / "x", "--state", wall / "s"), 73, "wall"
    )
    complaint(run(tmp_path, clip, "--detections", wall / "d.jsonl"), 73, "wall")
    complaint(run(tmp_path, clip, "--mot", wall / "t.txt"), 73, "wall")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--broker", "mqtt://127.0.0.1", "--sink", "x"], 2),
        (["--broker", "amqp://127.0.0.1"], 2),
        (["--sample", "sometimes"], 2),
        (["--sample", "uniform:0"], 78),
        (["--zone", "door=0,0,1"], 2),
        (["--zone", "door=0,0,1,1"], 78),
        (["--zone", "door=0,0,1,1,0,7"], 78),
        (["--threshold", "person=high"], 2),
        (["--threshold", "persn=0.5"], 78),
        (["--label", "persn"], 78),
        (["--camera", "front/door"], 78),
        (["--device", "a+b"], 78),
        (["--device", ""], 78),
        (["--zone", "a=0,0,1,0,1,1", "--zone", "a=0,0,1,0,1,1"], 78),
        (["--zone", "a=0,0,1,0,0,0"], 78),
        (["--drain-s", "nan"], 2),
        (["--pace", "slow"], 2),
        (["--sorce", "x"], 2),
        (["--sink", sample_clip()], 2),
        (["--mot", "x", "--detections", "x"], 2),
    ],
)
def test_options_that_make_no_sense(options: list[object], code: int, tmp_path: Path) -> None:
    """A wrong option ends the command before anything is opened."""
    source = ["--source", sample_clip(), "--state", tmp_path / "state"]
    done = edge_agent("run", *source, *options)
    assert "Traceback" not in done.stderr
    complaint(done, code)
