"""Example, schema and effective configuration say the same as the structs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import (
    CameraConfig,
    CommandsConfig,
    Config,
    Detect,
    HomeAssistantConfig,
    LimitsConfig,
    MetricsConfig,
    MqttConfig,
    OutboxConfig,
    Sampling,
    Zone,
)
from agent.config.describe import effective, example, json_schema
from agent.config.load import load_config, parse_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STRUCTS = {
    "": Config,
    "mqtt": MqttConfig,
    "outbox": OutboxConfig,
    "metrics": MetricsConfig,
    "commands": CommandsConfig,
    "homeassistant": HomeAssistantConfig,
    "limits": LimitsConfig,
    "sampling": Sampling,
    "detect": Detect,
    "camera": CameraConfig,
    "camera.detect.zones": Zone,
}

SECRET, CREDENTIAL = "hunter2", "mqtt-credential"


def keys_of_example() -> dict[tuple[str, str], str]:
    """Return the text of each value in the example, commented out or not, by table and key."""
    found, table = {}, ""
    for line in example().splitlines():
        if match := re.match(r"#?\[\[?([\w.]+)\]", line):
            table = match[1]
        elif match := re.match(r"#?(\w+) = (.*?)(?: +# .*)?$", line):
            found.setdefault((table, match[1]), match[2])
    return found


def uncommented() -> str:
    """Return the example with every key in force."""
    text = re.sub(r"(?m)^#(?=[\[\w])", "", example()).replace("tls = false", "tls = true")
    return text.replace(
        "[[detect.zones]]", '[[detect.zones]]\nname = "all"\npolygon = [[0, 0], [1, 0], [1, 1]]'
    )


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    """As it stands, readable by everybody, it loads."""
    path = tmp_path / "config.toml"
    path.write_text(example())
    path.chmod(0o644)
    config = load_config(path)
    assert [camera.name for camera in config.camera] == ["yard"]
    assert config.mqtt is not None


def test_the_example_with_every_key_in_force_is_one_too() -> None:
    """What is commented out is right as well."""
    config = parse_config(uncommented().encode())
    assert [camera.name for camera in config.camera] == ["yard", "garage"]
    assert config.camera[0].username == "viewer"


@pytest.mark.parametrize("table", STRUCTS)
def test_the_example_shows_every_key_with_its_default(table: str) -> None:
    """No field of any struct is missing; what is commented out is the default where there is one."""
    shown = keys_of_example()
    for field in msgspec.structs.fields(STRUCTS[table]):
        if "Config" in str(field.type) or field.name in {"sampling", "detect", "zones"}:
            path = f"{table}.{field.name}".lstrip(".")
            assert re.search(rf"(?m)^#?\[\[?{path}\]", example()), path
            continue
        value = tomllib.loads(f"x = {shown[table, field.name]}")["x"]
        commented = re.search(rf"(?m)^#{field.name} = ", example())
        default = field.default
        if commented and default is not msgspec.NODEFAULT and default not in (None, (), {}):
            assert value == default, field.name


def test_the_example_fits_a_screen() -> None:
    """No line is wider than 120 characters, and ASCII is enough."""
    assert max(map(len, example().splitlines())) <= 120
    assert example().isascii()


def test_the_schema_takes_the_example_and_describes_every_key() -> None:
    """JSON Schema 2020-12, closed: unknown keys and wrong types are refused."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    for text in (example(), uncommented()):
        checker.validate(tomllib.loads(text))
    wrong = tomllib.loads(example().replace("\nhost =", "\nprot = 1\nhost ="))
    assert not checker.is_valid(wrong)
    for name, struct in schema["$defs"].items():
        for key, described in struct["properties"].items():
            assert described.get("description"), f"{name}.{key}"


def test_logins_are_not_in_what_is_shown() -> None:
    """The rest of the URL is."""
    shown = effective(Config(camera=(CameraConfig("a", "rtsp://admin:hunter2@cam/2?password=x1y2"),)))
    assert "hunter2" not in shown
    assert "x1y2" not in shown
    assert "rtsp://***@cam/2" in shown


def test_a_password_in_place_of_a_file_is_not_shown() -> None:
    """Without a "/" it is shown only when it is the name of a credential; the result loads all the same."""
    config = Config(
        camera=(CameraConfig("a", "rtsp://cam/2", username="u", password_file=SECRET),),
        mqtt=MqttConfig("broker", username="u", password_file=CREDENTIAL),
    )
    shown = effective(config, credentials=[CREDENTIAL])
    assert SECRET not in shown
    assert CREDENTIAL in shown
    assert CREDENTIAL not in effective(config)
    assert parse_config(shown.encode()).camera[0].password_file == "***"  # noqa: S105 - not one


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/+#$", exclude_categories=["C", "Z"]), max_size=12
)
TEXTS = NAMES.map(lambda text: f"x{text}")
POLYGON = st.tuples(st.floats(0, 1), st.floats(0.01, 1)).map(lambda corner: ((0.0, 0.0), (1.0, 0.0), corner))
SAMPLING = st.builds(
    Sampling,
    mode=st.sampled_from(["uniform", "interval", "motion"]),
    hz=st.floats(1e-6, 1000),
    every_n=st.integers(1, 10**6),
    min_hz=st.floats(1e-6, 1),
    max_hz=st.floats(1, 1000),
    threshold=st.floats(1e-9, 0.99),
)
ZONES = st.lists(
    st.builds(Zone, TEXTS, POLYGON, st.lists(TEXTS, max_size=2).map(tuple)),
    max_size=3,
    unique_by=lambda z: z.name,
)
DETECT = st.builds(
    Detect,
    threshold=st.none() | st.floats(1e-6, 1),
    thresholds=st.dictionaries(TEXTS, st.floats(1e-6, 1), max_size=3),
    labels=st.lists(TEXTS, max_size=3).map(tuple),
    hysteresis=st.floats(0, 0.99),
    end_after_s=st.floats(1e-3, 1e6),
    zones=ZONES.map(tuple),
    masks=st.lists(POLYGON, max_size=2).map(tuple),
)
CAMERAS = st.lists(
    st.builds(
        CameraConfig,
        name=TEXTS,
        source=TEXTS.map(lambda text: f"/{text}"),
        enabled=st.booleans(),
        model=st.none() | TEXTS.map(lambda text: f"/{text}"),
        decode=st.sampled_from(["all", "keyframes_when_idle"]),
        sampling=st.none() | SAMPLING,
        detect=st.none() | DETECT,
        stall_timeout_s=st.floats(0.5, 3600),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda camera: camera.name,
)  # fmt: skip
CONFIGS = st.builds(
    Config,
    camera=CAMERAS.map(tuple),
    device=st.none() | TEXTS,
    mqtt=st.none()
    | st.builds(MqttConfig, host=st.just("broker.lan"), port=st.none() | st.integers(1, 65535)),
    sampling=SAMPLING,
    detect=DETECT,
    limits=st.builds(LimitsConfig, threads=st.none() | st.integers(1, 64), drain_s=st.floats(0, 1e6)),
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS)
def test_what_is_shown_loads_again(config: Config) -> None:
    """The effective configuration is the same configuration, to the last digit."""
    assert parse_config(effective(config).encode()) == config
