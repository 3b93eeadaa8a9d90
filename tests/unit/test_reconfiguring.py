"""Other cameras while the agent runs: what is no good changes nothing, and a stop meanwhile is an end."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.camera import CameraOptions
from agent.config import CameraConfig, Config, Sampling
from agent.engines import Engines
from agent.errors import AgentError, BadConfig, CannotCreate, UsageError
from agent.outlet import open_outlet
from agent.overrides import Overrides
from agent.reconfiguring import End, Reconfiguring
from agent.runoptions import RunOptions
from agent.systemd import Systemd
from agent.watch import Watch, check_cameras

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GATE = CameraConfig("gate", "rtsp://127.0.0.1:1/gate")
YARD = CameraConfig("yard", "rtsp://127.0.0.1:1/yard", enabled=False)
SLOW = Sampling(mode="uniform", hz=1.0)


@dataclass
class Lab:
    """A reconfiguring over cameras that are away; `following` is what the file says next, `stop` a signal."""

    options: RunOptions
    following: RunOptions | AgentError | None = None
    stop: bool = False
    loaded: list[list[str]] = field(default_factory=list)

    @property
    def running(self) -> dict[str, CameraConfig]:
        """The cameras at work, by name."""
        return {camera.config.name: camera.config for camera in self.watch.cameras}

    def read(self) -> RunOptions:
        """Return what the file says."""
        if isinstance(self.following, AgentError):
            raise self.following
        assert self.following is not None
        return replace(self.following, reload=self.read)

    def load(self, cameras: Sequence[CameraConfig]) -> bool:
        """Open models as a service does."""
        self.loaded.append([camera.name for camera in cameras])
        check_cameras(cameras, self.engines)
        return self.stop

    @contextmanager
    def at_work(self) -> Iterator[Reconfiguring]:
        """Yield it begun; the cameras end with the block."""
        options = replace(self.options, reload=self.read)
        sink = str(options.state_dir / "events.jsonl")
        with (
            Engines(threads=1, eager=False, tell=lambda _: None) as self.engines,
            open_outlet(
                device="t", topic_root="edge", broker=None, sink=sink, state_dir=options.state_dir
            ) as self.outlet,
        ):
            self.watch = Watch(self.engines, self.outlet, CameraOptions(), ended=lambda _: None)
            made = Reconfiguring(
                options,
                Overrides(options.state_dir),
                self.watch,
                self.engines,
                self.outlet,
                load=self.load,
                systemd=Systemd(),
            )
            assert not self.load([])
            made.begin()
            self.loaded.clear()
            try:
                yield made
            finally:
                self.watch.stop(self.watch.cameras, "shutdown")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return one with a camera that is on and one that is off."""
    return Lab(RunOptions(config=Config(camera=(GATE, YARD), state_dir=str(tmp_path))))


def cameras(options: RunOptions, *wanted: CameraConfig) -> RunOptions:
    """Return `options` with other cameras."""
    return replace(options, config=msgspec.structs.replace(options.config, camera=wanted))


def switched(camera: CameraConfig, _: Config) -> CameraConfig:
    """Switch the camera off if it is on, and on if it is off."""
    return msgspec.structs.replace(camera, enabled=not camera.enabled)


def slowed(camera: CameraConfig, _: Config) -> CameraConfig:
    """Give the camera another sampling."""
    return msgspec.structs.replace(camera, sampling=SLOW)


def test_a_reload_takes_on_the_cameras_of_the_file(lab: Lab) -> None:
    """With what commands changed laid over them; those that are gone are told to be."""
    porch = msgspec.structs.replace(GATE, name="porch")
    with lab.at_work() as made:
        made.change("gate", slowed)
        lab.following = cameras(lab.options, GATE, porch)
        assert made.reload() == "new: porch"
        assert set(lab.running) == {"gate", "porch"}
        assert lab.running["gate"].sampling == SLOW
        assert made.options.config.camera == (GATE, porch)
        lab.following = cameras(lab.options, porch)
        assert made.reload() == "gone: gate"
        assert set(lab.running) == {"porch"}


def test_a_reload_that_is_no_good_changes_nothing(lab: Lab) -> None:
    """A file that can't be read, a model that is not there; a stop while models load is an end, with nothing done."""
    with lab.at_work() as made:
        before = made.options
        lab.following = BadConfig("no good")
        with pytest.raises(BadConfig):
            made.reload()
        lab.following = cameras(lab.options, msgspec.structs.replace(GATE, model="/none"))
        with pytest.raises(AgentError, match="none"):
            made.reload()
        lab.following, lab.stop = cameras(lab.options, YARD), True
        assert made.reload() == End("shutdown")
        assert set(lab.running) == {"gate"}
        assert made.options is before


def test_more_than_cameras_that_is_new_is_the_end(lab: Lab) -> None:
    """What follows is told; nothing is loaded for it here."""
    with lab.at_work() as made:
        lab.following = replace(lab.options, threads=3)
        end = made.reload()
        assert isinstance(end, End)
        assert (end.reason, end.following and end.following.threads) == ("reload", 3)
        assert lab.loaded == []


def test_one_command_has_nothing_to_reload(lab: Lab) -> None:
    """It is run without a configuration to read again."""
    with lab.at_work() as made:
        made.options = replace(made.options, reload=None)
        with pytest.raises(UsageError, match="no configuration to reload"):
            made.reload()


def test_a_camera_is_switched_on_and_off(lab: Lab) -> None:
    """The model of one that comes is opened first; one that is off may be set too; it all holds at the next start."""
    with lab.at_work() as made:
        assert not made.change("gate", switched).enabled  # type: ignore[union-attr]
        assert lab.running == {}
        assert made.change("gate", slowed).sampling.hz == 1.0  # type: ignore[union-attr]
        assert lab.loaded == []
        assert made.change("yard", switched).enabled  # type: ignore[union-attr]
        assert lab.loaded == [["yard"]]
        assert set(lab.running) == {"yard"}
    with lab.at_work():
        assert set(lab.running) == {"yard"}


def test_a_change_that_is_no_good_changes_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that there is not, a disk that does not take it; a stop while its model loads is an end."""

    def refuse(*_: object, **__: object) -> None:
        raise CannotCreate("full")

    with lab.at_work() as made:
        with pytest.raises(UsageError, match="there is gate, yard"):
            made.change("attic", switched)
        with monkeypatch.context() as patch:
            patch.setattr("agent.overrides.write_whole", refuse)
            with pytest.raises(CannotCreate):
                made.change("gate", switched)
        lab.stop = True
        assert made.change("yard", switched) == End("shutdown")
        assert set(lab.running) == {"gate"}
    assert Overrides(lab.options.state_dir).over(lab.options.config) == lab.options.config
