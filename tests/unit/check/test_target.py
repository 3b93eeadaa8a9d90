"""What of a configuration is checked: defaults filled in, secrets read, troubles kept apart."""

from __future__ import annotations

from pathlib import Path

from agent.check.target import from_config
from agent.config import CameraConfig, Config, Detect, MqttConfig, Sampling
from agent.modelstore import FOLDER, ModelStore
from agent.modelstore.install import Options, install
from agent.starter import starter_bundle
from tests.broken_models import make_bundle

DEFAULTS = {"device": "host", "state_dir": lambda: Path("/state"), "threads": 3}


def test_a_camera_has_the_device_s_settings_unless_it_has_its_own() -> None:
    """Model, sampling and detection; each model is checked once; what is off is not watched."""
    own = CameraConfig(
        name="b", source="b", model="/m/own", sampling=Sampling(every_n=3), detect=Detect(threshold=0.9)
    )
    config = Config(
        camera=(CameraConfig(name="a", source="a"), own, CameraConfig(name="c", source="c", enabled=False)),
        model="/m/all",
        sampling=Sampling(every_n=2),
    )
    target = from_config(config, **DEFAULTS)
    a, b, _ = target.cameras
    assert (a.model, a.sampling.every_n, a.detect.threshold) == (Path("/m/all"), 2, None)
    assert (b.model, b.sampling.every_n, b.detect.threshold) == (Path("/m/own"), 3, 0.9)
    assert target.models == (Path("/m/all"), Path("/m/own"))
    assert [camera.name for camera in target.watched] == ["a", "b"]
    assert (target.device, target.state_dir, target.threads) == ("host", Path("/state"), 3)
    assert target.topics.base == "edge/host"


def test_without_a_model_it_is_the_starter() -> None:
    """As `run` does."""
    target = from_config(Config(camera=(CameraConfig(name="a", source="a"),)), **DEFAULTS)
    assert target.models == (starter_bundle(),)


def test_without_a_model_it_is_what_was_installed(tmp_path: Path) -> None:
    """The store's model runs, so it is what is checked."""
    store = ModelStore(tmp_path / FOLDER)
    sha = install(store, str(make_bundle(tmp_path / "new")), Options()).sha
    config = Config(camera=(CameraConfig(name="a", source="a"),))
    target = from_config(config, **{**DEFAULTS, "state_dir": lambda: tmp_path})
    assert [model.name for model in target.models] == [sha]


def test_a_secret_that_is_missing_is_the_trouble_of_one(tmp_path: Path) -> None:
    """The other camera can still be watched, and the broker's trouble is its own."""
    missing = str(tmp_path / "none")
    locked = CameraConfig(name="b", source="rtsp://h/x", username="u", password_file=missing)
    mqtt = MqttConfig(host="h", username="u", password_file=missing)
    config = Config(camera=(CameraConfig(name="a", source="a"), locked), mqtt=mqtt)
    target = from_config(config, **DEFAULTS)
    assert [camera.name for camera in target.watched] == ["a"]
    assert missing in str(target.cameras[1].trouble)
    assert target.mqtt is None
    assert missing in str(target.mqtt_trouble)


def test_no_login_is_shown_by_mistake(tmp_path: Path) -> None:
    """Printing a target does not print its passwords."""
    (tmp_path / "p").write_text("s3cret")
    (tmp_path / "p").chmod(0o600)
    login = {"username": "u", "password_file": str(tmp_path / "p")}
    config = Config(
        camera=(CameraConfig(name="a", source="rtsp://h/x", **login),), mqtt=MqttConfig(host="h", **login)
    )
    target = from_config(config, **DEFAULTS)
    assert "s3cret" in target.cameras[0].url
    assert "s3cret" not in repr(target)
