"""Models installed on a device, good ones and every kind that must not come to run: real networks, real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.bundle import Trust, load_bundle
from agent.errors import BadData, ServiceAway, UsageError
from agent.modelstore import ModelStore, StoreState
from agent.modelstore.install import Installed, Options, Progress, install
from agent.modelstore.trial import Limits
from calibration.keys import new_key
from tests.broken_models import (
    Member,
    bad_zip,
    break_signature,
    make_bundle,
    sha256_of,
    sha_of,
    zip_of,
)
from tests.patience import HANGS_S
from tests.unit.enginestore.bundles import make_bundle as make_onnx_bundle
from tests.unit.modelstore.webserver import Manners, WebServer

KEY, OTHER_KEY = new_key(), new_key()
TRUST = Trust((KEY.public,))
SIGNED = Options(trust=TRUST)
REFUSED = {
    "nan": "not finite",
    "constant": "same for every picture",
    "shape": "do not fit",
    "slow": "too slow: p95",
    "spin": "it spins",
    "large": "can't be loaded|too much memory|crashed",
    "crash": "it crashed: SIGSEGV",
    "garbage": "can't be loaded",
}
"""Kinds of broken models, and what each is refused with."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Return the store of a new device."""
    return ModelStore(tmp_path / "state" / "models")


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no proxy of this machine between the tests and their server."""
    monkeypatch.setenv("no_proxy", "*")


def test_a_model_comes_in_works_and_makes_way(tmp_path: Path, store: ModelStore) -> None:
    """A directory, then a .zip; the second's trial fails nothing, the first is what a rollback gives."""
    steps: list[str] = []
    first = install(
        store, str(make_bundle(tmp_path / "one", version=1)), Options(), lambda p: steps.append(p.step)
    )
    assert steps == ["copy", "verify", "trial", "swap"]
    assert (first.changed, first.state, store.read().standing) == (True, "pending", "pending")
    assert first.trial is not None
    assert first.trial.figures is not None
    assert first.trial.figures.nodes == 2
    store.begin()
    store.commit(first.sha)
    archive = zip_of(make_bundle(tmp_path / "two", version=2), tmp_path / "two.zip", folder="street")
    second = install(store, str(archive), Options(sha256=sha256_of(archive)))
    assert store.bundle() == store.versions.path(second.sha)
    load_bundle(store.versions.path(second.sha))
    assert store.rollback("test") == store.versions.path(first.sha)
    again = install(store, str(tmp_path / "one"), Options())
    assert again == Installed(first.sha, "street", 1, changed=False, state="committed")


@pytest.mark.parametrize("kind", REFUSED)
def test_a_broken_model_is_refused_and_does_no_harm(tmp_path: Path, store: ModelStore, kind: str) -> None:
    """It fails in its own process; what runs stays, and it is in quarantine until somebody says otherwise."""
    sound = install(store, str(make_bundle(tmp_path / "sound", version=1)), Options())
    bundle = make_bundle(tmp_path / kind, kind, version=2)
    limits = Limits(cpu_s=6) if kind == "spin" else Limits()
    with pytest.raises(BadData, match=REFUSED[kind]):
        install(store, str(bundle), Options(limits=limits))
    assert store.bundle() == store.versions.path(sound.sha)
    assert list(store.read().quarantine) == [sha_of(bundle)]
    with pytest.raises(BadData, match="quarantine"):
        install(store, str(bundle), Options())


def test_a_bundle_that_nothing_here_runs_is_not_held_against_it(tmp_path: Path, store: ModelStore) -> None:
    """ONNX alone, without TensorRT: it is told, and the model may come again when that is there."""
    make_onnx_bundle(tmp_path / "onnx", "fp16")
    with pytest.raises(ServiceAway, match="nothing here can run"):
        install(store, str(tmp_path / "onnx"), Options())
    assert store.read() == StoreState()


def test_a_trial_is_made_once_and_again_when_asked_for(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a runtime; a rolled back model comes in again without, one that failed only with `again`, and on merit."""
    bundle = str(make_bundle(tmp_path / "one", version=1))
    first = install(store, bundle, Options())
    store.rollback("test")
    assert install(store, bundle, Options()).trial == first.trial
    store.fail(first.sha, "somebody says so")
    with pytest.raises(BadData, match="somebody says so"):
        install(store, bundle, Options())
    tried = install(store, bundle, Options(again=True)).trial
    assert tried is not None
    assert tried.time != (first.trial and first.trial.time)
    assert store.read().quarantine == {}
    store.rollback("test")
    monkeypatch.setattr("agent.modelstore.trial.runtime", lambda: "another")
    renewed = install(store, bundle, Options()).trial
    assert renewed is not None
    assert renewed.runtime == "another"


def test_a_limit_of_its_own_counts_also_for_what_was_tried(tmp_path: Path, store: ModelStore) -> None:
    """Nothing runs in a thousandth of a millisecond."""
    bundle = str(make_bundle(tmp_path / "one", version=1))
    install(store, bundle, Options())
    store.rollback("test")
    with pytest.raises(BadData, match="too slow"):
        install(store, bundle, Options(limits=Limits(max_ms=1e-6)))


def test_over_the_air_a_signature_is_needed(tmp_path: Path, store: ModelStore) -> None:
    """By a trusted key, before anything of the manifest is read; locally as the configuration says."""
    unsigned = make_bundle(tmp_path / "unsigned")
    foreign = make_bundle(tmp_path / "foreign", key=OTHER_KEY)
    changed = break_signature(make_bundle(tmp_path / "changed", key=KEY))
    nonsense = make_bundle(tmp_path / "nonsense", key=KEY)
    (nonsense / "model.toml").write_text("this is = not [ TOML")
    wanted = {
        unsigned: "not signed",
        foreign: "key that is not trusted",
        changed: "does not sign this",
        nonsense: "does not sign this",
    }
    for bundle, words in wanted.items():
        with pytest.raises(BadData, match=words):
            _fetch(store, zip_of(bundle, tmp_path / "x.zip"), SIGNED)
        with pytest.raises(BadData, match=r"signed|trusted|sign this"):
            _fetch(store, tmp_path / "x.zip", Options())
    assert store.read().current is None
    assert store.versions.there() == frozenset()
    good = zip_of(make_bundle(tmp_path / "good", key=KEY), tmp_path / "good.zip")
    assert _fetch(store, good, SIGNED).state == "pending"
    assert install(store, str(make_bundle(tmp_path / "local", version=2)), Options()).changed
    assert not list((store.folder / "downloads").iterdir())


def test_an_older_version_is_refused_whoever_had_signed_it(tmp_path: Path, store: ModelStore) -> None:
    """Also after the newer one was taken back; a model of another name has its own count."""
    install(store, str(make_bundle(tmp_path / "v3", version=3, key=KEY)), SIGNED)
    store.rollback("test")
    with pytest.raises(BadData, match="older than what was installed: version 2"):
        install(store, str(make_bundle(tmp_path / "v2", version=2, key=KEY)), SIGNED)
    assert install(
        store, str(make_bundle(tmp_path / "yard", version=1, key=KEY, name="yard")), SIGNED
    ).changed
    assert store.read().ratchet == {KEY.public.name: {"street": 3, "yard": 1}}


def test_what_is_asked_for_must_be_what_comes(tmp_path: Path, store: ModelStore) -> None:
    """The version in the manifest, and the hash of the .zip; a URL needs one."""
    bundle = make_bundle(tmp_path / "one", version=1)
    archive = str(zip_of(bundle, tmp_path / "one.zip"))
    with pytest.raises(BadData, match="version: 1"):
        install(store, archive, Options(version=2))
    with pytest.raises(BadData, match="wrong sha256"):
        install(store, archive, Options(sha256="0" * 64))
    with pytest.raises(UsageError, match="needs --sha256"):
        install(store, "https://host/x.zip", Options())
    assert store.read().current is None


def test_a_bundle_that_is_damaged_is_refused(tmp_path: Path, store: ModelStore) -> None:
    """Cut weights, other labels, a .zip with more than a bundle: nothing of it stays."""
    cut = make_bundle(tmp_path / "cut")
    (cut / "fp32.tflite").write_bytes((cut / "fp32.tflite").read_bytes()[:-1])
    labels = make_bundle(tmp_path / "labels")
    (labels / "labels.txt").write_text("red\ngreen\ngrey\n")
    more = bad_zip(tmp_path / "more.zip", [Member("../../evil.txt")], of=make_bundle(tmp_path / "more"))
    for source in (zip_of(cut, tmp_path / "cut.zip"), labels, more):
        with pytest.raises(BadData) as fault:
            install(store, str(source), Options())
        assert ".part" not in str(fault.value), "the message names what the user knows"
    assert store.versions.there() == frozenset()
    assert not store.versions.leftovers()
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_download_that_was_killed_goes_on(tmp_path: Path, store: ModelStore) -> None:
    """Kill -9 in the middle: the next command fetches the rest alone."""
    archive = zip_of(make_bundle(tmp_path / "street", "street", version=9, key=KEY), tmp_path / "street.zip")
    content = archive.read_bytes()
    half = len(content) // 2
    manners = Manners(content, cuts=[half, *[0] * 50])
    with WebServer(manners) as server:
        command = _command(
            store, server.url, "--sha256", sha256_of(archive), "--trusted-key", KEY.public.line
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment()) as child:
            assert child.stdout is not None
            assert b"download" in child.stdout.readline()
            child.send_signal(signal.SIGKILL)
    part = next((store.folder / "downloads").glob("*.part"))
    assert 0 < part.stat().st_size <= half
    manners = Manners(content)
    with WebServer(manners) as server:
        done = _run(store, server.url, "--sha256", sha256_of(archive), "--trusted-key", KEY.public.line)
    assert done["changed"] is True
    assert manners.requests[0]["Range"].startswith("bytes=")


def test_the_command_line_tells_and_changes_all_of_it(tmp_path: Path, store: ModelStore) -> None:
    """install, list, rollback and gc, as people and programs see them."""
    state = str(store.folder.parent)
    bundle = make_bundle(tmp_path / "one", version=1, key=KEY)
    done = _run(store, str(bundle), "--trusted-key", KEY.public.line)
    assert (done["name"], done["version"], done["state"], done["in_use"]) == ("street", 1, "pending", True)
    assert "next start" in done["note"]
    listing = json.loads(_agent("model", "list", "--state", state, "--json"))
    assert (listing["current"], listing["pending"], listing["previous"]) == (done["sha"], done["sha"], None)
    assert listing["ratchet"] == {KEY.public.name: {"street": 1}}
    table = _agent("model", "list", "--state", state)
    assert "pending" in table
    assert max(map(len, table.splitlines())) <= 80
    broken = make_bundle(tmp_path / "nan", "nan", version=2)
    assert "not finite" in _agent("model", "install", str(broken), "--state", state, code=65)
    assert "quarantined" in _agent("model", "list", "--state", state)
    assert "runs on" in _agent("model", "trial", str(bundle), "--state", state)
    kept = json.loads(_agent("model", "rollback", "--from", "0" * 64, "--state", state, "--json"))
    assert kept["changed"] is False
    back = json.loads(_agent("model", "rollback", "--from", done["sha"], "--state", state, "--json"))
    assert (back["model"], back["changed"]) == (None, True)
    assert "factory" in _agent("model", "rollback", "--state", state, code=2)
    gone = json.loads(_agent("model", "gc", "--max-mbytes", "0", "--state", state, "--json"))
    assert set(gone["models"]) == {done["sha"], sha_of(broken)}


def test_a_configuration_with_a_model_of_its_own_is_told(tmp_path: Path, store: ModelStore) -> None:
    """What is installed then does not run."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'model = "{make_bundle(tmp_path / "mine")}"\nstate_dir = "{store.folder.parent}"\n'
        '[[camera]]\nname = "door"\nsource = "clip.mp4"\n'
    )
    done = _run(store, str(make_bundle(tmp_path / "one", version=2)), "--config", str(config))
    assert done["in_use"] is False
    assert "not in use" in done["note"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_root_leaves_nothing_in_a_directory_of_the_agent(tmp_path: Path, store: ModelStore) -> None:
    """The agent could not change it."""
    state = store.folder.parent
    state.mkdir()
    os.chown(state, 12345, 12345)
    bundle = make_bundle(tmp_path / "one")
    assert "sudo -u" in _agent("model", "install", str(bundle), "--state", str(state), code=77)
    assert list(state.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """Told before it is written where sizes are known; what runs goes on, nothing half-made stays."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        store = ModelStore(disk / "models")
        sound = install(store, str(make_bundle(tmp_path / "one", version=1)), Options())
        large = make_bundle(tmp_path / "street", "street", version=2)
        for source in (large, zip_of(large, tmp_path / "street.zip")):
            said = _agent("model", "install", str(source), "--state", str(disk), code=73)
            assert "no room" in said
        assert store.bundle() == store.versions.path(sound.sha)
        assert not store.versions.leftovers()
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 4096))
        assert store.begin() in (store.versions.path(sound.sha), None)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fetch(store: ModelStore, archive: Path, options: Options) -> Installed:
    """Install `archive` from a web server."""
    told: list[Progress] = []
    with WebServer(Manners(archive.read_bytes())) as server:
        options = Options(trust=options.trust, sha256=sha256_of(archive))
        done = install(store, server.url, options, told.append)
    assert told[0].step == "download"
    return done


def _environment() -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "no_proxy": "*"}


def _command(store: ModelStore, source: str, *options: str) -> list[str]:
    state = str(store.folder.parent)
    return [sys.executable, "-m", "agent", "model", "install", source, "--state", state, "--json", *options]


def _run(store: ModelStore, source: str, *options: str) -> dict[str, Any]:
    """Install by the command line; return the last line of what it says."""
    done = subprocess.run(
        _command(store, source, *options),
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("step" in line for line in lines[:-1])
    last: dict[str, Any] = lines[-1]
    return last


def _agent(*arguments: str, code: int = 0) -> str:
    """Run the command line; return standard output, or in the case of a fault its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout
