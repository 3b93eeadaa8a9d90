"""load_config: what is accepted, and the one line that tells what is not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from agent.config import CameraConfig, Config, Detect, MqttConfig, OutboxConfig, Sampling, Zone
from agent.config.load import MAX_BYTES, load_config, parse_config
from agent.errors import AgentError, BadConfig, InputMissing, NotPermitted

CAMERA = '[[camera]]\nname = "yard"\nsource = "rtsp://cam/2"\n'
TWO = CAMERA + '[[camera]]\nname = "door"\nsource = "rtsp://cam/1"\n'
LISTEN = CAMERA + "[metrics]\nlisten = "
MQTT = CAMERA + "[mqtt]\n"


def fault(text: str | bytes) -> str:
    """Return the line that `text` is refused with."""
    with pytest.raises(BadConfig) as error:
        parse_config(text.encode() if isinstance(text, str) else text)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


def written(path: Path, text: str, mode: int = 0o640) -> Path:
    """Return `path` with `text` in it."""
    path.write_text(text)
    path.chmod(mode)
    return path


def test_one_camera_is_a_configuration() -> None:
    """Name and source are all that is needed."""
    assert parse_config(CAMERA.encode()) == Config(camera=(CameraConfig("yard", "rtsp://cam/2"),))


def test_everything_at_once() -> None:
    """Every table arrives in its struct."""
    text = (
        'device = "pi4"\n'
        '[mqtt]\nhost = "::1"\nport = 8883\ntls = true\nca_file = "ca.pem"\n'
        "[outbox]\nmax_mbytes = 8\n"
        '[sampling]\nmode = "uniform"\nhz = 2\n'
        "[detect]\nthresholds = {person = 0.4}\nmasks = [[[0, 0], [1, 0], [1, 1]]]\n"
        + CAMERA
        + '[[camera.detect.zones]]\nname = "gate"\npolygon = [[0, 0], [1, 0], [1, 1]]\nlabels = ["person"]\n'
    )
    corner = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    assert parse_config(text.encode()) == Config(
        device="pi4",
        mqtt=MqttConfig("::1", 8883, tls=True, ca_file="ca.pem"),
        outbox=OutboxConfig(8),
        sampling=Sampling("uniform", 2.0),
        detect=Detect(thresholds={"person": 0.4}, masks=(corner,)),
        camera=(
            CameraConfig("yard", "rtsp://cam/2", detect=Detect(zones=(Zone("gate", corner, ("person",)),))),
        ),
    )


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ('"127.0.0.1:9187"', ("127.0.0.1", 9187)),
        ('"[::1]:1"', ("::1", 1)),
        ('"localhost:65535"', ("localhost", 65535)),
    ],
)
def test_metrics_listen_on_the_loopback(listen: str, address: tuple[str, int]) -> None:
    """Each way to write it becomes host and port; without it nobody listens."""
    assert parse_config((LISTEN + listen).encode()).metrics.address == address
    assert parse_config(CAMERA.encode()).metrics.address is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # keys
        (TWO + "[camera.sampling]\nhz = -1", r"camera\[1\]\.sampling\.hz \(door\): -1\.0; must be above 0"),
        (TWO + "[camera.samplin]\nhz = 1", r'key: camera\[1\]\.samplin \(door\); did you mean "sampling"\?'),
        (CAMERA + "[camera.sampling]\nfps = 1", r"unknown key: camera\.sampling\.fps \(yard\); known: mode, hz,"),
        (CAMERA + '"a b" = 1', r'unknown key: camera\."a b" \(yard\)'),
        (MQTT + 'password = "hunter2"', r'unknown key: mqtt\.password; did you mean "password_file"\?'),
        (CAMERA + "[MQTT]", r'unknown key: MQTT; did you mean "mqtt"\?'),
        # types
        (CAMERA + 'enabled = "yes"', r"camera\.enabled \(yard\): .*`bool`.*: yes; write true or false"),
        (CAMERA + "open_timeout_s = true", r"camera\.open_timeout_s \(yard\): .*: true; write a number"),
        (CAMERA + "model = 7", r"camera\.model \(yard\): .*: 7; write text in quotes"),
        (CAMERA + "[outbox]\nmax_mbytes = 5.5", r"outbox\.max_mbytes: .*: 5\.5; write a whole number"),
        (CAMERA + "open_timeout_s = 2020-01-01", r"open_timeout_s .*`date`: 2020-01-01"),
        (CAMERA + 'decode = "al"', r'camera\.decode \(yard\): .*\'al\'; did you mean "all"\?'),
        ("mqtt = 5\n" + CAMERA, r"mqtt: 5; must be a table: \[mqtt\]"),
        ('[camera]\nname = "yard"', r"camera: a table; must be a list of tables: \[\[camera\]\]"),
        ("camera = [1]", r"camera: 1; must be a table"),
        (CAMERA + '[detect]\nthresholds = {a = 0.5, b = "x"}', r"detect\.thresholds\.b: .*: x; write a number"),
        (CAMERA + "[detect]\nmasks = [[[0, 0], [1, 0], [1]]]", r"detect\.masks\[0\]\[2\]: .*length 2.*a list of 1"),
        # missing
        ("", r"missing required field `camera`; add \[\[camera\]\]"),
        ("camera = []", r"camera: none; add \[\[camera\]\]"),
        ('[[camera]]\nname = "yard"', r"camera \(yard\): .*`source`; add camera\.source"),
        (CAMERA + "[mqtt]", r"mqtt: .*`host`; add mqtt\.host"),
        # names
        (TWO.replace("door", "yard"), r"camera\[1\]\.name: yard; give each camera a name of its own"),
        (CAMERA.replace("yard", "a/b"), r"camera\.name \(a/b\): 'a/b'; 1 to 64 bytes without / \+ # \$"),
        (CAMERA.replace("yard", "a+b"), r"camera\.name"),
        (CAMERA.replace("yard", "#"), r"camera\.name"),
        (CAMERA.replace("yard", "$SYS"), r"camera\.name"),
        (CAMERA.replace("yard", " "), r"camera\.name"),
        (CAMERA.replace("yard", ""), r"camera\.name"),
        (CAMERA.replace("yard", r"a\u0007"), r"camera\.name"),
        (CAMERA.replace("yard", "x" * 70_000), r"camera\.name \(x+\.\.\.\): 70000 characters; at most 4096"),
        (CAMERA.replace("yard", "x" * 70), r"camera\.name"),
        ('topic_root = "a//b"\n' + CAMERA, r"topic_root: ''"),
        ('topic_root = "a/b/c/d/e/f/g/h/i/j/k"\n' + CAMERA, r"topic_root: 11 levels; at most 10"),
        ('device = "a#"\n' + CAMERA, r"device: 'a#'"),
        # values
        (CAMERA + "[sampling]\nhz = nan", r"sampling\.hz: nan; must be above 0, up to 1000"),
        (CAMERA + "[sampling]\nhz = inf", r"sampling\.hz: inf"),
        (CAMERA + "[sampling]\nhz = 1e9", r"sampling\.hz: 1000000000\.0"),
        (CAMERA + "[sampling]\nhz = " + "9" * 400, r"sampling\.hz: .*out of range"),
        (CAMERA + "[sampling]\nhz = " + "9" * 5000, r"is not TOML"),
        (CAMERA + "[sampling]\nevery_n = " + "9" * 100, r"sampling\.every_n: a number of 333 bits"),
        (CAMERA + "[sampling]\nmin_hz = 20", r"sampling\.min_hz: 20\.0; must not exceed max_hz 10"),
        (CAMERA + "[sampling]\nthreshold = 1", r"sampling\.threshold: 1\.0"),
        (CAMERA + "[detect]\nthreshold = 0", r"detect\.threshold: 0\.0; a score above 0"),
        (CAMERA + "[detect]\nthresholds = {person = nan}", r"detect\.thresholds\.person: nan"),
        (CAMERA + "[detect]\nhysteresis = nan", r"detect\.hysteresis: nan"),
        (CAMERA + "[detect]\nend_after_s = 1e300", r"detect\.end_after_s: 1e\+300"),
        (CAMERA + "[detect]\nmin_duration_s = -1", r"detect\.min_duration_s: -1\.0; must be 0 to"),
        (CAMERA + '[detect]\nlabels = [""]', r"detect\.labels: ''; a label"),
        (CAMERA + "[detect]\nmasks = [[[0, 0], [1, 0]]]", r"detect\.masks\[0\]: 2 corners"),
        (CAMERA + "[detect]\nmasks = [[[0, 0], [1, 0], [nan, 1]]]", r"detect\.masks\[0\]: corner nan, 1"),
        (CAMERA + "[detect]\nmasks = [[[0, 0], [1, 1], [0.5, 0.5]]]", r"detect\.masks\[0\]: no area"),
        (CAMERA + '[[camera.detect.zones]]\nname = "a"\npolygon = []', r"camera\.detect\.zones\.polygon \(yard, a\)"),
        (CAMERA + "stall_timeout_s = 0.1", r"camera\.stall_timeout_s \(yard\): 0\.1; must be 0\.5 to 3600"),
        (CAMERA + "open_timeout_s = 0", r"camera\.open_timeout_s"),
        (CAMERA + 'model = ""', r"camera\.model .*give the path"),
        (CAMERA + 'password_file = "./p"', r"camera\.username \(yard\): none; a password_file needs a username"),
        (CAMERA + 'username = ""', r"camera\.username"),
        (CAMERA.replace("rtsp://cam/2", " "), r"camera\.source"),
        (CAMERA.replace("rtsp://cam/2", r"a\u0000b"), r"camera\.source \(yard\): a\\x00b; take the control"),
        (CAMERA.replace("rtsp://cam/2", "x.mp4") + 'username = "u"', r"camera\.source .*x\.mp4; only rtsp"),
        (CAMERA + "[limits]\nthreads = 0", r"limits\.threads: 0; must be 1 to 64"),
        (CAMERA + "[limits]\ndrain_s = nan", r"limits\.drain_s: nan"),
        (CAMERA + "stall_timeout_s = nan", r"camera\.stall_timeout_s"),
        (CAMERA + "[limits]\ndrain_s = inf", r"limits\.drain_s: inf"),
        (CAMERA + "[outbox]\nmax_mbytes = 0", r"outbox\.max_mbytes: 0; must be 1 to 1000000"),
        (LISTEN + '"0.0.0.0:9187"', r"metrics\.listen: 0\.0\.0\.0:9187; use 127\.0\.0\.1, and a proxy with TLS"),
        (LISTEN + '"pi4.lan:9187"', r"metrics\.listen: pi4\.lan:9187; use 127\.0\.0\.1"),
        (LISTEN + '"[::]:9187"', r"metrics\.listen: \[::\]:9187; use 127\.0\.0\.1"),
        (LISTEN + '"9187"', r"metrics\.listen: '9187'; write it like \"127\.0\.0\.1:9187\""),
        (LISTEN + '"http://127.0.0.1:9187/"', r"metrics\.listen: .*; write it like"),
        (LISTEN + '"127.0.0.1:0"', r"metrics\.listen: 0; must be 1 to 65535"),
        ('sink = "mqtt://broker"\n' + CAMERA, r"sink: 'mqtt://broker'; give the path"),
        # broker
        (MQTT + 'host = ""', r"mqtt\.host: ''"),
        (MQTT + 'host = "mqtts://b.lan:8883"', r'did you mean host = "b\.lan" and port = 8883\?'),
        (MQTT + 'host = "b.lan:1883"', r'did you mean host = "b\.lan" and port = 1883\?'),
        (MQTT + 'host = "b lan"', r"mqtt\.host: 'b lan'; give the name or address"),
        (MQTT + 'host = "b"\nport = 70000', r"mqtt\.port: 70000; must be 1 to 65535"),
        (MQTT + 'host = "b"\nport = 0', r"mqtt\.port: 0"),
        (MQTT + 'host = "b"\nport = true', r"mqtt\.port: .*: true; write a whole number"),
        (MQTT + 'host = "b"\nkeepalive_s = 1', r"mqtt\.keepalive_s: 1; must be 5 to 65535"),
        (MQTT + 'host = "b"\npassword_file = "p"', r"mqtt\.username: none"),
        (MQTT + 'host = "b"\nca_file = "ca"', r"mqtt\.tls: false with ca_file; add tls = true"),
        (MQTT + 'host = "b"\ntls = true\ncert_file = "c"', r"mqtt\.key_file: none; a cert_file needs a key_file"),
        (MQTT + 'host = "b"\ntls = true\nkey_file = "c"', r"mqtt\.cert_file: none"),
        # files
        (CAMERA + "x = = 1", r"is not TOML: .*line 4"),
        ("camera", r"is not TOML: .*=.*after a key"),
        (CAMERA.encode() + b'model = "\xff"', r"is not TOML: line 4 is not UTF-8"),
        (CAMERA.encode("utf-16"), r"is not TOML"),
        (b"\0" * 100, r"is not TOML"),
        ("x = " + "[" * 20_000, r"is not TOML"),
        ("a." * 60_000 + "a = 1", r"is not TOML: a key has more than 64 dots"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(text: str | bytes, line: str) -> None:
    """One line: the path of the key, the value seen, what to write."""
    found = fault(text)
    assert re.search(line, found), found


def test_a_login_is_never_shown() -> None:
    """Wherever a URL with a password ends up, the message is without it."""
    url = "rtsp://admin:hun ter2/@cam/2"
    for text in (
        CAMERA.replace("rtsp://cam/2", url) + 'username = "u"',
        CAMERA.replace("rtsp://cam/2", url + r"\u0000"),
        CAMERA.replace('"rtsp://cam/2"', f"['{url}']"),
        CAMERA + f"enabled = '{url}'",
        CAMERA + "decode = 'rtsp:/admin:hunter2@cam'",
        CAMERA + f"'{url}' = 1",
        CAMERA + f"model = '{url}'",
        CAMERA.replace("yard", url),
        MQTT + "host = 'mqtt://edge:hunter2@broker:1883'",
        MQTT + "host = 'edge:hunter2@broker'",
        CAMERA + f"mqtt = '{url}'",
        f"camera = '{url}'",
        f"camera = ['{url}']",
    ):
        assert "ter2" not in fault(text), text


def test_a_bom_does_no_harm() -> None:
    """Editors on Windows write one."""
    assert parse_config(b"\xef\xbb\xbf" + CAMERA.replace("\n", "\r\n").encode()).camera[0].name == "yard"


def test_dots_are_no_depth() -> None:
    """Dots in comments and many numbers in a line are no deep key."""
    polygon = ", ".join(f"[0.{i}, 0.{i * i % 7}]" for i in range(100))
    text = f"# {'.' * 200}\n{CAMERA}[detect]\nmasks = [[{polygon}]]\n"
    assert len(parse_config(text.encode()).detect.masks[0]) == 100


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to where the agent was started; URLs, "-" and names of credentials stay."""
    text = (
        'model = "m"\nstate_dir = "../state"\nsink = "-"\n'
        '[mqtt]\nhost = "b"\ntls = true\nusername = "u"\npassword_file = "broker-pw"\nca_file = "ca.pem"\n'
        '[[camera]]\nname = "a"\nsource = "clip.mp4"\nmodel = "/abs/m"\n'
        '[[camera]]\nname = "b"\nsource = "rtsp://cam/1"\nusername = "u"\npassword_file = "./b.pw"\n'
        '[[camera]]\nname = "c"\nsource = "v4l2:/dev/video0"\n'
    )
    written(tmp_path / "config.toml", text)
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("config.toml"))
    assert config.mqtt is not None
    assert (config.model, config.state_dir) == (f"{tmp_path}/m", f"{tmp_path}/../state")
    assert (config.sink, config.mqtt.password_file) == ("-", "broker-pw")
    assert config.mqtt.ca_file == f"{tmp_path}/ca.pem"
    assert [c.source for c in config.camera] == [f"{tmp_path}/clip.mp4", "rtsp://cam/1", "v4l2:/dev/video0"]
    assert [c.model for c in config.camera] == ["/abs/m", None, None]
    assert config.camera[1].password_file == f"{tmp_path}/b.pw"


def test_a_login_in_the_source_wants_a_private_file(tmp_path: Path) -> None:
    """A configuration that everybody may read must not hold one."""
    path = written(tmp_path / "c.toml", CAMERA.replace("cam/2", "admin:hunter2@cam/2"))
    assert load_config(path).camera[0].source == "rtsp://admin:hunter2@cam/2"
    path.chmod(0o644)
    with pytest.raises(
        BadConfig, match=r"camera\.source \(yard\): rtsp://\*\*\*@cam/2; .*chmod 640"
    ) as error:
        load_config(path)
    assert "hunter2" not in str(error.value)


def _nothing(path: Path) -> None:
    pass


def _too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100_000_000)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (_nothing, InputMissing, "edge-agent config example"),
        (Path.mkdir, BadConfig, "not a file"),
        (os.mkfifo, BadConfig, "not a file"),
        (_too_large, BadConfig, f"more than {MAX_BYTES} bytes"),
        (lambda path: path.symlink_to(path), BadConfig, "symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), BadConfig, "not a file"),
    ],
)
def test_what_is_no_file(make: object, kind: type[AgentError], words: str, tmp_path: Path) -> None:
    """Nothing, directories, FIFOs, devices and huge files are told apart, at once."""
    path = tmp_path / "config.toml"
    make(path)  # type: ignore[operator]
    with pytest.raises(kind) as error:
        load_config(path)
    assert words in str(error.value)
    assert "config.toml" in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """The fix names group and mode."""
    path = written(tmp_path / "config.toml", CAMERA, mode=0)
    with pytest.raises(NotPermitted, match=r"permission denied; .*chmod 640"):
        load_config(path)


def test_a_path_that_can_be_none() -> None:
    """A NUL in the path is a fault in one line too."""
    with pytest.raises(BadConfig):
        load_config(Path("a\0b"))
