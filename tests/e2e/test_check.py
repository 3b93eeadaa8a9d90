"""`edge-agent check` on real cameras, brokers, bundles and disks, sound ones and broken ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.check import Finding
from agent.check import broker as broker_check
from agent.check import disk as disk_check
from agent.mqtt.options import parse_url
from agent.starter import STARTER, sample_clip, starter_bundle
from tests.e2e.brokers import FakeBroker, Subscriber, amqtt, free_port, mosquitto, wait_for
from tests.e2e.cameras.http_server import HttpServer
from tests.e2e.cameras.rtsp import RtspCamera
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
QUICK = "open_timeout_s = 2.0\nstall_timeout_s = 2.0\n"
PATIENT = "open_timeout_s = 60.0\nstall_timeout_s = 60.0\n"
SECRET = "h0rse-battery"  # noqa: S105 - a made-up one
WITHOUT_OPENCV = "import sys; sys.modules['cv2'] = None; from agent.cli import main; main()"

Rows = dict[str, dict[str, str]]


def write_config(folder: Path, body: str, *, state: Path | None = None) -> Path:
    """Write a configuration that only its owner reads; return its path."""
    path = folder / "config.toml"
    path.write_text(f'device = "dev1"\nstate_dir = "{state or folder}"\n{body}')
    path.chmod(0o600)
    return path


def camera(name: str, source: object, more: str = "") -> str:
    """Return the table of one camera."""
    return f'[[camera]]\nname = "{name}"\nsource = "{source}"\n{more}\n'


def run_check(*arguments: object, python: tuple[str, ...] = ("-m", "agent")) -> tuple[int, Any, str]:
    """Run `check --json`; return exit code, document and standard error."""
    command = [sys.executable, *python, "check", "--json", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("{"), done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] == (done.returncode == 0)
    return done.returncode, document, done.stderr


def rows_of(document: Any, *states: str) -> Rows:
    """Return the rows in one of `states`, the last of each thing."""
    return {row["what"]: row for row in document["findings"] if row["state"] in states}


@pytest.fixture
def clip() -> Path:
    return sample_clip()


def test_a_device_as_it_should_be(tmp_path: Path, clip: Path) -> None:
    """RTSP, HTTP and a file, a broker, a picture of each: exit 0, facts in every row, one message on its topic."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    pictures = tmp_path / "pictures"
    with (
        RtspCamera(size=(640, 360)) as rtsp,
        HttpServer() as server,
        mosquitto(tmp_path) as broker,
        Subscriber(broker.port) as subscriber,
    ):
        zone = 'detect = { zones = [{ name = "door", polygon = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]] }] }'
        body = camera("yard", clip, zone) + camera("gate", rtsp.url) + camera("web", server.url("live"))
        body += f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        config = write_config(tmp_path, body)
        code, document, stderr = run_check("--config", config, "--save", pictures)
        wait_for(lambda: subscriber.messages, HANGS_S, "the message")
    assert (code, stderr) == (0, "")
    good = rows_of(document, "ok")
    assert {"config", "broker", "state directory", f"model {STARTER}", "load (estimate)"} <= set(good)
    assert good["camera yard"]["seen"].startswith("768x576 h264, 10 fps, a key frame every 2 s, decoding ")
    facts = re.match(r"640x360 h264, ([\d.]+) fps, a key frame every ([\d.]+) s", good["camera gate"]["seen"])
    assert facts
    assert [float(number) for number in facts.groups()] == pytest.approx([15.0, 1.0], rel=0.3)
    assert "320x240 mjpeg" in good["camera web"]["seen"]
    assert "key frames only" in good["camera web"]["seen"]
    assert "sha256 and self-test good, litert-xnnpack" in good[f"model {STARTER}"]["seen"]
    assert sorted(path.name for path in pictures.iterdir()) == ["gate.jpg", "web.jpg", "yard.jpg"]
    assert [(topic, retained) for topic, _, retained in subscriber.messages] == [("edge/dev1/check", False)]
    assert sorted(path.name for path in tmp_path.iterdir() if "outbox" in path.name) == []


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Yield the port of a server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_every_way_a_camera_fails_is_a_row_of_its_own(tmp_path: Path, clip: Path) -> None:
    """Refused, silent, no login, wrong login, no such path, no video, no file: told apart, and the good one is seen."""
    (tmp_path / "password").write_text(SECRET)
    (tmp_path / "password").chmod(0o600)
    login = f'username = "{SECRET}-user"\npassword_file = "{tmp_path / "password"}"\n'
    with (
        RtspCamera(login="user right") as locked,
        silent_server() as port,
        HttpServer({"text": b"no video at all"}) as server,
    ):
        sources = {
            "refused": camera("refused", f"rtsp://127.0.0.1:{free_port()}/cam", PATIENT),
            "silent": camera("silent", f"rtsp://127.0.0.1:{port}/cam", QUICK),
            "hangs": camera("hangs", server.url("hang"), QUICK),
            "locked": camera("locked", locked.url, PATIENT),
            "wrong": camera("wrong", locked.url, PATIENT + login),
            "path": camera("path", server.url("status/404"), PATIENT),
            "text": camera("text", server.url("text"), PATIENT),
            "gone": camera("gone", tmp_path / "gone.mp4"),
            "secretless": camera("secretless", locked.url, 'username = "u"\npassword_file = "/nowhere/p"\n'),
        }
        config = write_config(tmp_path, "".join(sources.values()) + camera("yard", clip))
        code, document, stderr = run_check("--config", config)
    assert (code, stderr) == (1, "")
    faults = {what.removeprefix("camera "): row for what, row in rows_of(document, "fault").items()}
    assert set(faults) == set(sources)
    seen = {name: row["seen"] for name, row in faults.items()}
    assert seen["refused"].startswith("connection refused")
    assert seen["silent"].startswith("no answer")
    assert seen["hangs"].startswith("no answer")
    assert seen["locked"].startswith("login refused")
    assert seen["wrong"].startswith("login refused")
    assert "does not know this path" in seen["path"]
    assert "not a playable video" in seen["text"]
    assert "no such file" in seen["gone"]
    assert "/nowhere/p" in seen["secretless"]
    assert all(row["fix"] for row in faults.values())
    assert "camera yard" in rows_of(document, "ok")
    assert SECRET not in json.dumps(document)


def test_a_camera_that_connects_and_shows_nothing(tmp_path: Path) -> None:
    """The connection stands and no picture comes: a fault, in bounded time."""
    with HttpServer() as server:
        server.silent = True
        config = write_config(tmp_path, camera("web", server.url("live"), QUICK))
        code, document, _ = run_check("--config", config)
    assert code == 1
    assert set(rows_of(document, "fault")) == {"camera web"}


def test_a_single_camera_needs_no_file(tmp_path: Path, clip: Path) -> None:
    """--source with a login in a broker URL that is away: nothing of it is shown, and it is exit 1."""
    code, document, _ = run_check(
        "--source", clip, "--broker", f"mqtt://user:{SECRET}@127.0.0.1:{free_port()}", "--state", tmp_path
    )
    assert code == 1
    broker = rows_of(document, "fault")["broker"]
    assert "Connection refused" in broker["seen"]
    assert "check host and port" in broker["fix"]
    assert SECRET not in json.dumps(document)
    assert "camera camera" in rows_of(document, "ok")


def broker_row(url: str) -> Finding:
    """Return the last row of the broker `url`."""
    return broker_check.check(parse_url(url, connect_timeout_s=HANGS_S), base="edge/dev1")[-1]


def test_a_broker_that_denies_publishing(tmp_path: Path) -> None:
    """The access list refuses by MQTT 5's reason code 0x87: a fault that says which topic to allow."""
    acl = tmp_path / "acl"
    acl.write_text("topic read edge/#\n")
    acl.chmod(0o644)
    with mosquitto(tmp_path, settings=f"allow_anonymous true\nacl_file {acl}") as broker:
        row = broker_row(f"mqtt://127.0.0.1:{broker.port}")
    assert row.state == "fault"
    assert "edge/dev1/check: denied: 0x87" in row.seen
    assert "edge/dev1/#" in row.fix


def test_a_broker_that_refuses_the_login(tmp_path: Path) -> None:
    """Mosquitto without anonymous users: a fault that asks for a login."""
    with mosquitto(tmp_path, settings="allow_anonymous false") as broker:
        row = broker_row(f"mqtt://127.0.0.1:{broker.port}")
    assert row.state == "fault"
    assert "refused: Not authorized" in row.seen
    assert "username" in row.fix


def test_a_broker_that_knows_only_3_1_1() -> None:
    """It works, with a warning that denials can't be seen."""
    with FakeBroker(lambda level: b"\x20\x02\x00\x01" if level == 5 else b"\x20\x02\x00\x00") as broker:
        row = broker_row(f"mqtt://127.0.0.1:{broker.port}")
    assert row.state == "warning"
    assert "3.1.1" in row.seen
    with amqtt() as real:
        assert "3.1.1" in broker_row(f"mqtt://127.0.0.1:{real.port}").seen


def test_tls_where_there_is_none(tmp_path: Path, clip: Path) -> None:
    """mqtts:// to a plain port: a fault about TLS."""
    with mosquitto(tmp_path) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        code, document, _ = run_check("--source", clip, "--broker", url, "--state", tmp_path)
    assert code == 1
    assert "TLS" in rows_of(document, "fault")["broker"]["fix"]


def test_a_damaged_model_leaves_the_other_checks_going(tmp_path: Path, clip: Path) -> None:
    """One byte of the weights is wrong: that model is a fault, its camera is seen, the good model works."""
    bad = tmp_path / "bad"
    shutil.copytree(starter_bundle(), bad)
    weights = next(bad.glob("*.tflite"))
    body = bytearray(weights.read_bytes())
    body[len(body) // 2] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(body)
    config = write_config(tmp_path, camera("a", clip, f'model = "{bad}"') + camera("b", clip))
    code, document, _ = run_check("--config", config)
    assert code == 1
    faults = rows_of(document, "fault")
    assert set(faults) == {"model bad"}
    assert "wrong sha256" in faults["model bad"]["seen"]
    assert {"camera a", "camera b", f"model {STARTER}"} <= set(rows_of(document, "ok"))


def test_a_label_that_the_model_does_not_have(tmp_path: Path, clip: Path) -> None:
    """What `run` would refuse is a fault here, with what was meant."""
    config = write_config(tmp_path, camera("yard", clip, 'detect = { labels = ["preson"] }'))
    code, document, _ = run_check("--config", config)
    assert code == 1
    row = rows_of(document, "fault")["camera yard settings"]
    assert "preson" in row["seen"]
    assert '"person"' in row["fix"]


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Yield a tmpfs of one megabyte; skips the test for those who may not mount."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size=1m{options}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def disk_rows(state: Path) -> list[tuple[str, str, str]]:
    """Return state, what was seen and the fix of each row of the state directory."""
    rows = disk_check.check(state, max_bytes=64 << 20)
    return [(row.state, row.seen, row.fix) for row in rows if row.what == "state directory"]


def test_a_full_disk(tmp_path: Path, clip: Path) -> None:
    """Little room, in memory: warnings. No room for a single block: a fault, exit 1, and the camera is still seen."""
    with small_disk(tmp_path / "disk", "") as disk:
        rows = disk_rows(disk)
        assert [state for state, _, _ in rows] == ["ok", "warning", "warning"]
        assert "an outage may fill" in rows[1][1]
        assert "is tmpfs: what waits for the broker is lost at power-off" in rows[2][1]
        with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        code, document, _ = run_check("--source", clip, "--state", disk)
    assert code == 1
    row = rows_of(document, "fault")["state directory"]
    assert "No space left" in row["seen"]
    assert "make room" in row["fix"]
    assert "camera camera" in rows_of(document, "ok")


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    """A card that has turned read-only: a fault."""
    with small_disk(tmp_path / "disk", ",ro") as disk:
        ((state, seen, fix),) = disk_rows(disk)
    assert state == "fault"
    assert "Read-only" in seen
    assert "read-write" in fix


def test_a_state_directory_of_another_user(tmp_path: Path) -> None:
    """No right to write: a fault that says whom to let."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    ((state, seen, fix),) = disk_rows(folder)
    assert state == "fault"
    assert "Permission denied" in seen
    assert "chown" in fix


def test_a_state_directory_that_can_not_be(tmp_path: Path) -> None:
    """A file where the directory should be: a fault; a directory that is only missing is not made."""
    (tmp_path / "file").write_text("")
    assert disk_rows(tmp_path / "file" / "state")[0][0] == "fault"
    state, seen, _ = disk_rows(tmp_path / "later" / "state")[0]
    assert state == "ok"
    assert "not there yet" in seen
    assert not (tmp_path / "later").exists()


def test_a_running_agent_is_seen_and_left_alone(tmp_path: Path, clip: Path) -> None:
    """While `run` works on the same state, device and broker: the check names its process and changes nothing."""
    state = tmp_path / "state"
    with mosquitto(tmp_path) as broker, Subscriber(broker.port, "edge/dev1/#") as subscriber:
        url = f"mqtt://127.0.0.1:{broker.port}"
        fixed = ["--source", clip, "--broker", url, "--device", "dev1", "--state", state]
        agent = subprocess.Popen([sys.executable, "-m", "agent", "run", *map(str, fixed)], cwd=ROOT)
        try:
            wait_for(lambda: subscriber.payloads("/events/"), HANGS_S, "an event")
            code, document, _ = run_check(*fixed)
            assert agent.poll() is None, "the agent still runs"
        finally:
            agent.terminate()
            ended = agent.wait(HANGS_S)
        wait_for(lambda: len(subscriber.payloads("/status")) >= 2, HANGS_S, "the farewell")
    assert (code, ended) == (0, 0)
    assert f"process {agent.pid}" in rows_of(document, "ok")["agent"]["seen"]
    assert [json.loads(p)["state"] for p in subscriber.payloads("/status")] == ["online", "offline"]
    assert len(subscriber.payloads("/check")) == 1


def test_without_opencv_the_picture_is_a_fault(tmp_path: Path, clip: Path) -> None:
    """--save on a machine without OpenCV says what to install."""
    code, document, _ = run_check(
        "--source", clip, "--state", tmp_path, "--save", tmp_path / "p", python=("-c", WITHOUT_OPENCV)
    )
    assert code == 1
    row = rows_of(document, "fault")["picture camera"]
    assert "needs OpenCV" in row["seen"]
    assert "apt install python3-opencv" in row["fix"]


def test_a_bad_configuration_is_a_row(tmp_path: Path) -> None:
    """A wrong key and a missing file: one row with the key and the fix, exit 1."""
    code, document, _ = run_check("--config", write_config(tmp_path, camera("a", "clip.mp4", "sampel = 1")))
    assert code == 1
    assert [row["what"] for row in document["findings"]] == ["config"]
    assert "sampel" in json.dumps(document)
    code, document, _ = run_check("--config", tmp_path / "gone.toml")
    assert code == 1
    assert "gone.toml" in document["findings"][0]["seen"]


def test_a_configuration_without_a_camera_to_watch(tmp_path: Path, clip: Path) -> None:
    """All cameras off: a fault, and the rest is still checked."""
    config = write_config(tmp_path, camera("a", clip, "enabled = false"))
    code, document, _ = run_check("--config", config)
    assert code == 1
    assert "no camera is enabled" in rows_of(document, "fault")["config"]["seen"]
    assert rows_of(document, "skipped")["camera a"]["seen"] == "not enabled"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_leaves_is_no_fault(tmp_path: Path, clip: Path, options: list[str]) -> None:
    """`check | true`: 74 and not 1, which would say that something was found."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "agent", "check", "--source", str(clip), "--state", str(tmp_path)]
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=HANGS_S,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (74, b"")


def test_the_table_fits_into_80_columns(tmp_path: Path, clip: Path) -> None:
    """Piped: rows of at most 80 characters, each state spelled out, the count last, no escape codes."""
    command = [sys.executable, "-m", "agent", "check", "--source", str(clip), "--state", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False, env=environment
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert any(line.startswith("ok       camera camera     768x576 h264") for line in lines)
    assert lines[-1].startswith("0 faults")


@pytest.mark.parametrize(
    "options",
    [
        ("--source", "a.mp4", "--config", "b.toml"),
        ("--broker", "mqtt://h"),
        ("--source", "a", "--sample", "x"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...]) -> None:
    """A command line that makes no sense is exit 2, in one line."""
    command = [sys.executable, "-m", "agent", "check", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_metrics_that_have_no_address_are_a_fault(tmp_path: Path) -> None:
    """What `run` could only log is told before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        config = write_config(tmp_path, f'[metrics]\nlisten = "{where}"\n' + camera("yard", sample_clip()))
        code, document, _ = run_check("--config", config)
    row = next(row for row in document["findings"] if row["what"] == "metrics")
    assert (code, row["state"]) == (1, "fault")
    assert "already in use" in row["seen"]
    assert "another metrics.listen" in row["fix"]
