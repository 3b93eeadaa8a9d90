"""Engines built in a process of their own, with the double of TensorRT; whatever happens there is one clear line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.backends.choice import Choice
from agent.bundle import load_bundle
from agent.choosing import Chooser
from agent.enginestore.building import Builder, Cancelled
from agent.enginestore.key import Failure, Key, Target, trial_of
from agent.enginestore.memory import Bounds
from agent.enginestore.store import EngineStore
from agent.errors import BadData, CannotCreate, ServiceAway, TryAgain
from tests import doubles
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S
from tests.unit.enginestore.bundles import make_bundle, network

if TYPE_CHECKING:
    from agent.bundle import Bundle

ORIN = Target("10.3.0", "8.7", "36.4.3")
ROOMY = Bounds(1 << 40, 0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "tiny", "int8", "fp16")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """Have children find the double of TensorRT, with the settings that are given to what this returns."""

    def present(settings: str = "", cuda: Path | None = doubles.CUDA_BINDINGS) -> None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
        for name, value in doubles.environment(cuda, settings).items():
            monkeypatch.setenv(name, value)

    present()
    return present


class Site:
    """A store, a builder for it, and what that told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.cancelled = threading.Event()
        self.store = EngineStore(folder)
        self.builder = Builder(self.store, self.told.append, self.cancelled, ROOMY)

    def build(self, bundle: Bundle, file: str = "int8.onnx"):
        artifact = bundle.named(file)
        return self.builder.build(bundle, artifact, self.key(bundle, file))

    def key(self, bundle: Bundle, file: str = "int8.onnx") -> Key:
        return Key(bundle.named(file).sha256, ORIN)

    def failure(self, bundle: Bundle) -> Failure | None:
        return self.store.failure(self.key(bundle), trial_of(bundle.manifest))

    def is_empty(self) -> bool:
        """Tell whether nothing but the lock, notes and timings is there."""
        return not any(path.is_dir() for path in self.store.folder.iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "engines")


def test_an_engine_is_built_tried_and_kept(site: Site, bundle: Bundle, gpu) -> None:
    """It tells how far it is; the record says what it is; the second time nothing is built; timings are kept."""
    record = site.build(bundle)
    assert record.outputs == ("scores",)
    assert (record.artifact, record.precision, record.model) == ("int8.onnx", "int8", "tiny 1")
    assert site.store.read(record.key) is not None
    assert "int8.onnx: self-test" in site.told
    assert any("%" in line for line in site.told)
    assert site.store.timing_cache(ORIN).exists()
    site.told.clear()
    assert site.build(bundle) == record
    assert site.told == []


def test_a_network_that_tensorrt_refuses_is_named_by_node_and_reason(site: Site, bundle: Bundle, gpu) -> None:
    """The next start does not try again; asked for by hand it does."""
    gpu("refuse=Abs")
    with pytest.raises(BadData, match=r"node odd \(Abs\)"):
        site.build(bundle)
    failure = site.failure(bundle)
    assert failure is not None
    assert failure.lasting
    assert "node odd (Abs)" in failure.why
    assert site.is_empty()
    gpu()
    site.build(bundle)
    assert site.failure(bundle) is None


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, site: Site, gpu) -> None:
    """Whatever the bytes are."""
    broken = make_bundle(tmp_path / "broken", "int8", networks={"int8": b"not a network"})
    with pytest.raises(BadData, match="TensorRT refuses this ONNX file"):
        site.build(broken)


def test_an_engine_that_fails_its_self_test_is_not_kept(tmp_path: Path, site: Site, gpu) -> None:
    """Scores that are the same whatever is seen: it is built, and not taken."""
    dead = make_bundle(tmp_path / "dead", "int8", networks={"int8": network("Sub", 2)})
    with pytest.raises(BadData, match=r"int8\.onnx: outputs: the same for every picture"):
        site.build(dead)
    assert site.is_empty()


def test_what_failed_its_self_test_is_tried_again_with_another_manifest(
    tmp_path: Path, site: Site, gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ONNX file need not be what was wrong; nor need it be the agent of another version."""
    dead = make_bundle(tmp_path / "dead", "int8", networks={"int8": network("Sub", 2)})
    with pytest.raises(BadData):
        site.build(dead)
    assert site.failure(dead) is not None
    manifest = dead.path / "model.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace("255.0, 255.0, 255.0", "1.0, 1.0, 1.0"))
    assert site.failure(load_bundle(dead.path)) is None
    manifest.write_text(text)
    assert site.failure(load_bundle(dead.path)) is not None
    monkeypatch.setattr("agent.enginestore.key.__version__", "99.0")
    assert site.failure(dead) is None


def test_a_crash_of_tensorrt_is_a_reason(site: Site, bundle: Bundle, gpu) -> None:
    """The agent goes on; the same build is not tried again."""
    gpu("crash=build")
    with pytest.raises(BadData, match=r"the build of int8\.onnx crashed: SIG"):
        site.build(bundle)
    failure = site.failure(bundle)
    assert failure is not None
    assert failure.lasting
    assert site.is_empty()


def test_a_build_that_takes_too_much_memory_is_ended_by_us(site: Site, bundle: Bundle, gpu) -> None:
    """Before the kernel ends something else; it is worth another try, and no process is left."""
    gpu("hog_mib=400 step_s=5")
    site.builder = replace(site.builder, bounds=Bounds(350 << 20, 0))
    with pytest.raises(TryAgain, match=r"not enough memory to build int8\.onnx: it took"):
        site.build(bundle)
    failure = site.failure(bundle)
    assert failure is not None
    assert not failure.lasting
    assert site.is_empty()
    assert children() == []


def test_a_device_with_no_memory_left_ends_it_too(site: Site, bundle: Bundle, gpu) -> None:
    """What a GPU takes of the common memory counts for no process: what is left for all is watched as well."""
    gpu("step_s=5")
    site.builder = replace(site.builder, bounds=Bounds(1 << 40, 1 << 50))
    with pytest.raises(TryAgain, match="are left for all"):
        site.build(bundle)


def test_a_gpu_that_can_t_be_reached_is_told(site: Site, bundle: Bundle, gpu) -> None:
    """By the engine's self-test, as one line; it is worth another try."""
    gpu("", None)
    with pytest.raises(ServiceAway, match="no way to reach the GPU"):
        site.build(bundle)
    failure = site.failure(bundle)
    assert failure is not None
    assert not failure.lasting


def test_tensorrt_that_is_too_old_is_told(site: Site, bundle: Bundle, gpu) -> None:
    """With its version and the one that is needed."""
    gpu("version=8.6.2")
    with pytest.raises(ServiceAway, match=r"too old: 8\.6\.2; 10\.3 or later"):
        site.build(bundle)


def test_a_full_disk_is_told_and_not_remembered(tmp_path: Path, bundle: Bundle, gpu) -> None:
    """Exit code 73; nothing is left, and with room it is built."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        site = Site(disk / "engines")
        (disk / "fill").write_bytes(bytes(56 << 10))
        with pytest.raises(CannotCreate, match="no room for an engine") as caught:
            site.build(bundle)
        assert caught.value.exit_code == 73
        assert site.failure(bundle) is None
        assert site.is_empty()
        (disk / "fill").unlink()
        site.build(bundle)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_build_that_is_given_up_leaves_nothing(site: Site, bundle: Bundle, gpu) -> None:
    """The child is gone, no draft is left, and it counts as no failure."""
    gpu("step_s=60")
    outcome: list[BaseException] = []

    def build() -> None:
        try:
            site.build(bundle)
        except BaseException as fault:  # noqa: BLE001
            outcome.append(fault)

    thread = threading.Thread(target=build)
    thread.start()
    wait_for(lambda: site.told, HANGS_S, "the build to begin")
    site.cancelled.set()
    thread.join(HANGS_S)
    assert [type(fault) for fault in outcome] == [Cancelled]
    assert site.is_empty()
    assert children() == []
    assert site.failure(bundle) is None


def test_of_two_that_build_at_once_the_second_waits(site: Site, bundle: Bundle, gpu) -> None:
    """It says for whom, and takes what the first has built."""
    gpu("step_s=0.1")
    other = Site(site.store.folder)
    records = []
    first = threading.Thread(target=lambda: records.append(site.build(bundle)))
    first.start()
    wait_for(lambda: site.told, HANGS_S, "the first to begin")
    records.append(other.build(bundle))
    first.join(HANGS_S)
    assert records[0] == records[1]
    assert other.told == [f"waiting: process {os.getpid()} builds an engine here"]


def test_a_build_dies_with_the_agent(tmp_path: Path, bundle: Bundle, gpu) -> None:
    """SIGKILL of the agent in the middle: the child ends too, and the next build clears up."""
    gpu("step_s=60")
    folder = tmp_path / "engines"
    script = (
        "from pathlib import Path; from agent.bundle import load_bundle;"
        " from tests.unit.enginestore.test_building import Site;"
        f" site = Site(Path({str(folder)!r})); site.told = print;"
        f" site.builder = __import__('dataclasses').replace(site.builder, tell=lambda t: print(t, flush=True));"
        f" site.build(load_bundle(Path({str(bundle.path)!r})))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert any(b"%" in line for line in iter(agent.stdout.readline, b""))  # in the middle of a long step
        builders = children(agent.pid)
        assert len(builders) == 1
        agent.send_signal(signal.SIGKILL)
        agent.wait(HANGS_S)
    wait_for(lambda: not Path(f"/proc/{builders[0]}").exists(), HANGS_S, "the child to end")
    assert any(path.name.endswith(".part") for path in folder.iterdir())
    gpu()
    site = Site(folder)
    site.build(bundle)
    assert not any(path.name.endswith(".part") for path in folder.iterdir())


def test_the_child_is_the_first_that_the_kernel_would_kill(site: Site, bundle: Bundle, gpu) -> None:
    """And it leaves the processor to the agent."""
    gpu("step_s=60")

    def build() -> None:
        with pytest.raises(Cancelled):
            site.build(bundle)

    thread = threading.Thread(target=build)
    thread.start()
    try:
        wait_for(lambda: any("%" in line for line in site.told), HANGS_S, "the build to begin")
        (child,) = children()
        assert Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "1000"
        assert os.getpriority(os.PRIO_PROCESS, child) >= 15
    finally:
        site.cancelled.set()
        thread.join(HANGS_S)


def children(of: int | None = None) -> list[int]:
    """Return the processes that build engines for process `of`, for this one by default."""
    found = []
    for task in Path(f"/proc/{of or os.getpid()}/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"agent.enginestore.child" in command.read_bytes():
                found.append(int(pid))
    return found


def test_int8_that_can_t_be_built_gives_way_to_fp16_and_then_to_nothing(
    tmp_path: Path, bundle: Bundle, gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failures are told, and known at the next start without a try."""
    monkeypatch.syspath_prepend(str(doubles.GPU))
    gpu("refuse=Abs")
    mine = Chooser.here(tmp_path / "state")
    wanted = mine.wanted(bundle)
    assert wanted is not None
    assert (wanted.backend, wanted.artifact) == ("tensorrt", "int8.onnx")
    assert mine.now(bundle) is None
    with pytest.raises(BadData):
        mine.engines.build(bundle, wanted)
    second = mine.wanted(bundle)
    assert second == Choice("tensorrt", "fp16.onnx", "fp16", 1)
    mine.engines.build(bundle, second)
    assert mine.now(bundle) == second
    later = Chooser.here(tmp_path / "state")
    assert later.now(bundle) == later.wanted(bundle) == second
    assert len(later.failures(bundle)) == 1
    assert "node odd (Abs)" in later.failures(bundle)[0]
