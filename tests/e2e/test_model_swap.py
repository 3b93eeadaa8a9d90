"""Another model while cameras run: no frame, no event and no connection is lost to that, and a bad one goes again."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest

from agent.camera import CameraOptions, Ended
from agent.config import CameraConfig, Config
from agent.control import answered, ask
from agent.engines import Engines
from agent.errors import BadConfig, BadData, UsageError
from agent.modelstore import FOLDER, ModelStore
from agent.modelstore.child import Figures
from agent.modelstore.install import Options, install
from agent.modelstore.trial import TrialResult, runtime
from agent.outlet import open_outlet
from agent.starter import sample_clip, starter_bundle
from agent.watch import Watch, complete
from calibration.keys import new_key
from tests import tinynets
from tests.broken_models import NETWORKS, make_bundle, sha256_of, sha_of, zip_of
from tests.e2e.test_several_cameras import agent
from tests.patience import HANGS_S
from tests.unit.modelstore.webserver import Manners, WebServer

if TYPE_CHECKING:
    from agent.pipeline import Result

ROOT = Path(__file__).parents[2]
KEY = new_key()


def events_of(sink: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.read_bytes().splitlines()] if sink.exists() else []


def check_lives(events: list[dict[str, Any]]) -> None:
    """Each event has one new, then updates, then one end; numbers of a lane have no gap."""
    lives: dict[str, list[str]] = {}
    numbers: dict[str, list[int]] = {}
    for event in events:
        lives.setdefault(event["event_id"], []).append(event["type"])
        lane, _, number = event["id"].rpartition("/")
        numbers.setdefault(lane, []).append(int(number))
    for event_id, kinds in lives.items():
        assert [kinds[0], kinds[-1]] == ["new", "end"], (event_id, kinds)
        assert set(kinds[1:-1]) <= {"update"}, (event_id, kinds)
    for lane, seen in numbers.items():
        assert sorted(seen) == list(range(min(seen), max(seen) + 1)), lane


def test_no_frame_is_lost_and_every_event_names_the_model_that_saw_it(tmp_path: Path) -> None:
    """Three swaps within a clip at full speed: all 200 frames are inferred, each event by whom it says."""
    models = [make_bundle(tmp_path / f"v{n}", "street", version=n) for n in (1, 2)] + [starter_bundle()]
    config = Config(camera=(CameraConfig(name="yard", source=str(sample_clip())),))
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    by_frame: dict[int, tuple[str, int]] = {}
    sink = tmp_path / "events.jsonl"
    with (
        Engines(threads=1, eager=True, tell=pytest.fail) as engines,
        open_outlet(device="t", topic_root="edge", broker=None, sink=str(sink), state_dir=tmp_path) as outlet,
    ):
        coming = {frame: engines.open(model) for frame, model in zip((50, 100, 150), models, strict=True)}
        swapped = []

        def look(result: Result) -> None:
            room = engines.default_room
            assert room is not None
            by_frame[result.frame.seq] = room.model.name, room.model.version
            if found := coming.pop(result.frame.seq, None):
                swapped.append(engines.exchange(*found))

        watch = Watch(engines, outlet, CameraOptions(pace="fastest"), ended=ended.put, recorders=[look])
        watch.apply(complete(config))
        assert ended.get(timeout=HANGS_S).fault is None
        watch.stop(watch.cameras, "end_of_stream")
        assert outlet.drain(HANGS_S)
        assert [done.is_set() for done in swapped] == [True] * 3
    assert sorted(by_frame) == list(range(200))
    assert len(set(by_frame.values())) == 3
    events = events_of(sink)
    check_lives(events)
    assert {(e["model"]["name"], e["model"]["version"]) for e in events} == set(by_frame.values())
    for event in events:
        assert (event["model"]["name"], event["model"]["version"]) == by_frame[event["frame"]["seq"]], event
    other = [event for event in events if event["reason"] == "model"]
    assert {event["label"] for event in other} <= {"skis", "car", "backpack", "snowboard"}
    born = {e["event_id"]: e["model"] for e in events if e["type"] == "new"}
    assert any(born[e["event_id"]] != e["model"] and e["label"] == "person" for e in events), "none lived on"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample clip twenty times over: more than any test here needs."""
    out = tmp_path_factory.mktemp("clip") / "long.mp4"
    with av.open(str(sample_clip())) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        span = max(packet.pts + packet.duration for packet in packets)
        with av.open(str(out), "w") as target:
            video = target.add_stream_from_template(stream)
            for turn in range(20):
                for packet in packets:
                    packet.pts += span if turn else 0
                    packet.dts += span if turn else 0
                    packet.stream = video
                    target.mux(packet)
    return out


def configure(folder: Path, clip: Path, **models: object) -> Path:
    """Write a configuration of two cameras that look twice a second, into a file."""
    lines = [
        'device = "t"',
        f"state_dir = {json.dumps(str(folder / 'state'))}",
        f"sink = {json.dumps(str(folder / 'events.jsonl'))}",
        "[models]",
        *(f"{key} = {json.dumps(value)}" for key, value in models.items()),
        "[sampling]",
        'mode = "uniform"',
        "hz = 2",
    ]
    for name in ("yard", "door"):
        lines += ["[[camera]]", f'name = "{name}"', f"source = {json.dumps(str(clip))}"]
    (folder / "c.toml").write_text("\n".join(lines))
    return folder / "c.toml"


def edge(*words: str) -> Any:
    """Return what the command prints, or prints last, as JSON."""
    command = [sys.executable, "-m", "agent", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return json.loads(done.stdout if lines[0] == "{" else lines[-1])


def test_a_model_is_installed_committed_and_taken_back_while_cameras_run(tmp_path: Path, clip: Path) -> None:
    """`model install` and `model rollback`: one connection a camera all the while, and no event ended for nothing."""
    config = configure(tmp_path, clip, commit_frames=4, commit_s=0.5)
    made = make_bundle(tmp_path / "street", "street", version=3)
    with agent(config) as running:
        running.wait_for("connected to")
        installed = edge("model", "install", str(made), "--config", str(config), "--json")
        assert installed["changed"]
        assert "street v3 runs from now on (pending)" in running.wait_for("runs from now on")
        running.wait_for("street v3 is committed")
        status = answered(ask(tmp_path / "state", "status"))
        assert status["model"] | {"sha256": ""} == {
            "name": "street",
            "version": 3,
            "sha256": "",
            "bundle_sha": sha_of(made),
            "source": "store",
            "state": "committed",
        }
        assert status["verdict"] == "ok"
        edge("model", "rollback", "--config", str(config), "--json")
        assert "coco-centernet-320" in running.wait_for("runs from now on (factory)")
        assert answered(ask(tmp_path / "state", "status"))["model"]["source"] == "factory"
        assert running.stop() == 0
    connected = [line for line in running.lines if "connected to" in line]
    assert len(connected) == 2, connected
    events = events_of(tmp_path / "events.jsonl")
    check_lives(events)
    assert {event["reason"] for event in events if event["type"] == "end"} <= {"lost", "model", "shutdown"}
    assert all(event["label"] != "person" for event in events if event["reason"] == "model")


@pytest.fixture
def smuggled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a model of a kind pending, with a trial that it never passed."""

    def passes(bundle: Path, sha: str, *_: object) -> TrialResult:
        figures = Figures("litert-xnnpack", 1, 1, 1.0, 1.0, 100.0, 1)
        return TrialResult(sha, runtime(), "2026-01-01T00:00:00Z", 0.1, figures)

    def smuggle(kind: str) -> str:
        monkeypatch.setattr("agent.modelstore.install.try_bundle", passes)
        made = make_bundle(tmp_path / kind, kind)
        return install(ModelStore(tmp_path / "state" / FOLDER), str(made), Options()).sha

    return smuggle


def test_a_model_comes_over_the_air(
    tmp_path: Path, clip: Path, smuggled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, of the version asked for, and within the quota of the configuration; what is refused tells no secret."""
    monkeypatch.setenv("no_proxy", "localhost")
    config = configure(tmp_path, clip, trusted_keys=[KEY.public.line], quota_mbytes=0)
    store = ModelStore(tmp_path / "state" / FOLDER)
    for kind in ("tiny", "street"):
        store.commit(smuggled(kind))
    archive = zip_of(make_bundle(tmp_path / "new", version=3, key=KEY), tmp_path / "new.zip")
    with agent(config) as running, WebServer(Manners(archive.read_bytes())) as server:
        running.wait_for("connected to")

        def install_from(url: str, sha256: str) -> Any:
            args = {"url": url, "sha256": sha256, "version": 3}
            return answered(ask(tmp_path / "state", "model.install", args, patience_s=HANGS_S))

        with pytest.raises(BadData, match="wrong sha256") as refused:
            install_from(server.url.replace("//", "//me:secret@"), "0" * 64)
        with pytest.raises(UsageError):
            install_from(str(archive), sha256_of(archive))
        done = install_from(server.url, sha256_of(archive))
        assert (done["version"], done["state"], done["note"]) == (3, "pending", "the agent has taken it on")
        assert answered(ask(tmp_path / "state", "status"))["model"]["bundle_sha"] == done["sha"]
        assert running.stop() == 0
    assert store.versions.there() == store.read().kept
    assert "secret" not in str(refused.value) + "".join(running.lines)


def test_a_model_that_ends_the_process_gets_three_starts(tmp_path: Path, clip: Path, smuggled: Any) -> None:
    """One that crashes as it is loaded: the fourth start runs the one before, and none of them waited."""
    sha, config = smuggled("crash"), configure(tmp_path, clip)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        command = [sys.executable, "-m", "agent", "run", "-v", "--config", str(config)]
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        for _ in range(3):
            died = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=HANGS_S,
                check=False,
            )
            assert died.returncode < 0, died.stderr
            assert "waiting" not in died.stderr
        with agent(config) as running:
            assert sha[:12] in running.wait_for("never got to work")
            running.wait_for("connected to")
            status = answered(ask(tmp_path / "state", "status"))
            assert status["model"]["source"] == "factory"
            assert sha[:12] in status["reasons"][-1]
            assert running.stop() == 0
        assert "waiting" not in "".join(running.lines)


def test_a_model_that_is_slow_at_work_goes_again(
    tmp_path: Path, clip: Path, smuggled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passed its trial, is adopted, takes many times what it took there, and makes way without a restart."""
    config = configure(tmp_path, clip)
    with agent(config) as running:
        running.wait_for("connected to")
        monkeypatch.setitem(NETWORKS, "slow", lambda: tinynets.looping(120))
        sha = smuggled("slow")
        assert (
            answered(ask(tmp_path / "state", "model.adopt", patience_s=HANGS_S))["model"]["state"]
            == "pending"
        )
        assert "too slow at work" in running.wait_for(f"{sha[:12]} was given up")
        assert "coco-centernet-320" in running.wait_for("runs from now on (factory)")
        assert running.stop() == 0
    assert len([line for line in running.lines if "connected to" in line]) == 2
    stored = ModelStore(tmp_path / "state" / FOLDER).read()
    assert stored.current is None
    assert sha not in stored.quarantine, "the device may have been at fault"


def test_labels_that_the_new_model_lacks_are_a_refusal(tmp_path: Path, clip: Path, smuggled: Any) -> None:
    """A camera asks for persons alone: the model that knows none is given up, the old one goes on, cameras too."""
    config = configure(tmp_path, clip)
    config.write_text(config.read_text() + '\n[camera.detect]\nlabels = ["person"]\n')
    with agent(config) as running:
        running.wait_for("connected to")
        sha = smuggled("tiny")
        with pytest.raises(BadConfig, match="camera door: labels: street has no such label: person"):
            answered(ask(tmp_path / "state", "model.adopt", patience_s=HANGS_S))
        status = answered(ask(tmp_path / "state", "status"))
        assert (status["model"]["source"], status["verdict"]) == ("factory", "degraded")
        assert running.stop() == 0
    assert sha in ModelStore(tmp_path / "state" / FOLDER).read().quarantine
    assert len([line for line in running.lines if "connected to" in line]) == 2
