"""Secrets from files: what is taken, what is refused, and that they are not shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import CameraConfig, MqttConfig
from agent.credentials import mqtt_options, read_password, source_url
from agent.errors import AgentError, BadConfig, InputMissing, NotPermitted

PASSWORD = "hunter2"  # noqa: S105 - not one


@pytest.fixture
def secret(tmp_path: Path) -> Callable[..., str]:
    """Return what writes a file only its owner and group may read, and gives its path."""

    def write(content: bytes | str = PASSWORD, mode: int = 0o640, name: str = "pw") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return str(path)

    return write


def camera(
    password_file: str | None = None, source: str = "rtsp://cam:554/2?a=b", **more: str
) -> CameraConfig:
    """Return a camera with a login."""
    return CameraConfig("yard", source, password_file=password_file, **{"username": "admin", **more})


@pytest.mark.parametrize(
    "content", ["hunter2", "hunter2\n", "hunter2\r\n", "hunter2\nwritten by the installer\n"]
)
def test_the_first_line_is_the_password(content: str, secret: Callable[..., str]) -> None:
    """Editors end files with a line end."""
    assert source_url(camera(secret(content))) == "rtsp://admin:hunter2@cam:554/2?a=b"


def test_blanks_belong_to_a_password(secret: Callable[..., str]) -> None:
    """Only the line end goes."""
    assert read_password(secret(" a b \n"), key="mqtt") == " a b "


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    user=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories="CZ"), min_size=1),
    word=st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories="CZ"), min_size=1),
)
def test_any_login_survives_the_url(user: str, word: str, secret: Callable[..., str]) -> None:
    """Every sign of a name or password that means something in a URL is encoded."""
    parts = urlsplit(source_url(camera(secret(word), username=user)))
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, word)
    assert (parts.hostname, parts.port, parts.path) == ("cam", 554, "/2")


def test_a_source_without_a_login_stays(secret: Callable[..., str]) -> None:
    """A login in the URL itself too; a name alone goes without a password."""
    for source in ("clip.mp4", "rtsp://a:b@cam/1", "v4l2:/dev/video0"):
        assert source_url(CameraConfig("yard", source)) == source
    assert source_url(camera()) == "rtsp://admin@cam:554/2?a=b"


@pytest.mark.parametrize("source", ["clip.mp4", "v4l2:/dev/video0", "rtsp://a:b@cam/1", "rtsp://a:b/c@cam/1"])
def test_a_source_that_takes_no_login(source: str) -> None:
    """Only a URL without one takes a username."""
    with pytest.raises(BadConfig, match=r"camera\.source") as error:
        camera(source=source)
    assert "a:b" not in str(error.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o642, 0o641])
def test_a_file_open_to_everybody_is_refused(mode: int, secret: Callable[..., str]) -> None:
    """Whoever else may read or change it: the fix is the command."""
    path = secret(mode=mode)
    with pytest.raises(BadConfig, match=f"camera yard: password_file .*chmod 640 {path}") as error:
        source_url(camera(path))
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_file_of_owner_and_group_is_taken(mode: int, secret: Callable[..., str]) -> None:
    """640 root:edge-agent is how a package installs it."""
    assert read_password(secret(mode=mode), key="mqtt") == PASSWORD


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\nhunter2", b"\x7fELFhunter2", b"hunter2\0", b"\xff\xfehunter2", b"hunter2" * 1000],
)
def test_what_is_no_password(content: bytes, secret: Callable[..., str]) -> None:
    """Empty, binary and huge files are told, not their content."""
    with pytest.raises(BadConfig, match=r"mqtt: password_file .*/pw: ") as error:
        read_password(secret(content), key="mqtt")
    assert PASSWORD not in str(error.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Nothing is 66, a directory or FIFO 78, at once."""
    with pytest.raises(InputMissing, match=r"/none: no such file; write the password into"):
        read_password(str(tmp_path / "none"), key="mqtt")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(BadConfig, match="not a file"):
            read_password(str(path), key="mqtt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(secret: Callable[..., str]) -> None:
    """Told with what to do about it."""
    with pytest.raises(NotPermitted, match="permission denied"):
        read_password(secret(mode=0), key="mqtt")


def test_a_plain_name_is_a_systemd_credential(
    secret: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up in $CREDENTIALS_DIRECTORY, and nowhere else."""
    secret(name="mqtt-pw", mode=0o400)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(InputMissing, match=r"\$CREDENTIALS_DIRECTORY is not set; .*LoadCredential"):
        read_password("mqtt-pw", key="mqtt")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_password("mqtt-pw", key="mqtt") == PASSWORD


@pytest.mark.parametrize("folder", [None, "/tmp"])  # noqa: S108 - it only has to be there
def test_a_password_in_the_place_of_its_file_is_not_shown(
    folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`password_file = "hunter2"` is a mistake people make."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    if folder:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", folder)
    with pytest.raises(AgentError, match="mqtt: password_file") as error:
        read_password(PASSWORD, key="mqtt")
    assert PASSWORD not in str(error.value)


def test_the_broker_gets_what_is_configured(secret: Callable[..., str]) -> None:
    """Ports are the usual ones; repr() shows no login."""
    options = mqtt_options(
        MqttConfig("b.lan", username="edge", password_file=secret(), client_id="c", keepalive_s=9)
    )
    assert (options.host, options.port, options.tls) == ("b.lan", 1883, False)
    assert (options.username, options.password) == ("edge", PASSWORD)
    assert (options.client_id, options.keepalive_s, options.protocol) == ("c", 9, "auto")
    assert PASSWORD not in repr(options)
    assert mqtt_options(MqttConfig("b.lan", tls=True)).port == 8883
    assert mqtt_options(MqttConfig("b.lan", port=1, protocol="3.1.1")).port == 1


def test_certificates_must_be_there(secret: Callable[..., str], tmp_path: Path) -> None:
    """Each file is named by its key; the private key must be private."""
    pem = secret("pem", 0o644, "a.pem")
    options = mqtt_options(MqttConfig("b", tls=True, ca_file=pem, cert_file=pem, key_file=secret()))
    assert (options.ca_file, options.cert_file, options.key_file) == (
        Path(pem),
        Path(pem),
        tmp_path / "pw",
    )
    with pytest.raises(InputMissing, match=r"mqtt\.ca_file .*/none: no such file"):
        mqtt_options(MqttConfig("b", tls=True, ca_file=str(tmp_path / "none")))
    with pytest.raises(BadConfig, match=r"mqtt\.key_file .*mode 644, open to everybody; chmod 640"):
        mqtt_options(MqttConfig("b", tls=True, cert_file=pem, key_file=pem))
