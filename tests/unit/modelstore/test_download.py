"""Downloads from servers that are slow, wrong, cut off, or worse."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.errors import BadData, CannotCreate, InputMissing, NotPermitted, ServiceAway, UsageError
from agent.modelstore.download import Download
from agent.modelstore.room import RESERVE_BYTES
from agent.modelstore.web import no_connection
from tests.e2e.certificates import Authority
from tests.unit.modelstore.webserver import Manners, WebServer

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no proxy of this machine between the tests and their server."""
    monkeypatch.setenv("no_proxy", "*")


def fetch(folder: Path, url: str, *, most_bytes: int = 1 << 20, sha: str = SHA) -> tuple[Path, list[object]]:
    """Download without pauses; return the file and what was told."""
    told: list[object] = []
    download = Download(folder, sha, most_bytes, pause_s=0.0)
    return download.fetch(url, lambda *bytes_: told.append(bytes_)), told


def test_a_file_is_fetched_and_its_progress_is_told(tmp_path: Path) -> None:
    """The last that is told is all of it; a second time nobody is asked."""
    manners = Manners(CONTENT)
    with WebServer(manners) as server:
        file, told = fetch(tmp_path / "new", server.url)
        assert file.read_bytes() == CONTENT
        assert told[-1] == (len(CONTENT), len(CONTENT))
        fetch(tmp_path / "new", server.url)
    assert len(manners.requests) == 1


def test_one_that_is_cut_at_every_tenth_goes_on_from_there(tmp_path: Path) -> None:
    """Nothing is fetched twice, and each request names the state of the file that it wants more of."""
    tenth = len(CONTENT) // 10
    manners = Manners(CONTENT, cuts=[tenth] * 9)
    with WebServer(manners) as server:
        file, _ = fetch(tmp_path, server.url)
    assert file.read_bytes() == CONTENT
    ranges = [request.get("Range") for request in manners.requests]
    assert ranges == [None, *(f"bytes={tenth * number}-" for number in range(1, 10))]
    assert {request.get("If-Range") for request in manners.requests[1:]} == {'"one"'}


@pytest.mark.parametrize("tenths", range(1, 10))
def test_what_came_before_a_cut_is_there_for_the_next_time(tmp_path: Path, tenths: int) -> None:
    """A server that is gone for good is told; the next command fetches the rest alone."""
    part = len(CONTENT) * tenths // 10
    broken = Manners(CONTENT, cuts=[part, *[0] * 20])
    with WebServer(broken) as server, pytest.raises(ServiceAway, match="broke off"):
        fetch(tmp_path, server.url)
    assert (tmp_path / f"{SHA}.part").read_bytes() == CONTENT[:part]
    whole = Manners(CONTENT)
    with WebServer(whole) as server:
        assert fetch(tmp_path, server.url)[0].read_bytes() == CONTENT
    assert [request["Range"] for request in whole.requests] == [f"bytes={part}-"]


def test_a_file_that_changed_between_is_fetched_anew(tmp_path: Path) -> None:
    """By its ETag; and one that a server without ETags mixes up, by its hash."""
    manners = Manners(CONTENT, cuts=[1000], etags=['"one"', '"two"'])
    with WebServer(manners) as server:
        assert fetch(tmp_path / "a", server.url)[0].read_bytes() == CONTENT
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"{SHA}.part").write_bytes(b"other" * 100)
    with WebServer(Manners(CONTENT, etags=[""])) as server:
        assert fetch(tmp_path / "b", server.url)[0].read_bytes() == CONTENT


def test_a_server_that_does_not_know_ranges_sends_all_again(tmp_path: Path) -> None:
    """And a part that is longer than the file is dropped."""
    with WebServer(Manners(CONTENT, cuts=[1000], ranges=False)) as server:
        assert fetch(tmp_path / "a", server.url)[0].read_bytes() == CONTENT
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"{SHA}.part").write_bytes(CONTENT + b"more")
    with WebServer(Manners(CONTENT)) as server:
        assert fetch(tmp_path / "b", server.url)[0].read_bytes() == CONTENT


def test_ten_gigabytes_are_refused_before_a_byte_is_read(tmp_path: Path) -> None:
    """By what the server says, and with nothing on the disk."""
    manners = Manners(CONTENT, said=str(10 << 30))
    with WebServer(manners) as server, pytest.raises(BadData, match="too large"):
        fetch(tmp_path, server.url)
    assert not (tmp_path / f"{SHA}.part").exists()


def test_a_server_that_says_nothing_and_sends_too_much_is_stopped(tmp_path: Path) -> None:
    """At the limit."""
    with WebServer(Manners(CONTENT * 4, said="")) as server, pytest.raises(BadData, match="too large"):
        fetch(tmp_path, server.url, most_bytes=50_000)
    assert (tmp_path / f"{SHA}.part").stat().st_size <= 50_000


def test_a_server_that_sends_less_or_more_than_it_said(tmp_path: Path) -> None:
    """Less is a cut; more is not read, and the hash tells; one that says nothing is taken at its end."""
    less = Manners(CONTENT[:-10], said=str(len(CONTENT)), ranges=False)
    with WebServer(less) as server, pytest.raises(ServiceAway, match="broke off"):
        fetch(tmp_path / "less", server.url)
    with WebServer(Manners(CONTENT, more=b"more" * 100)) as server:
        assert fetch(tmp_path / "more", server.url)[0].read_bytes() == CONTENT
    with WebServer(Manners(CONTENT, said="")) as server:
        assert fetch(tmp_path / "open", server.url)[0].read_bytes() == CONTENT
    with (
        WebServer(Manners(CONTENT, said="", more=b"m")) as server,
        pytest.raises(BadData, match="wrong sha256"),
    ):
        fetch(tmp_path / "longer", server.url)


def test_another_file_is_refused_and_not_kept(tmp_path: Path) -> None:
    """Its hash is not the one that was asked for."""
    with WebServer(Manners(b"other")) as server, pytest.raises(BadData, match="wrong sha256"):
        fetch(tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "fault"),
    [(404, InputMissing), (410, InputMissing), (401, NotPermitted), (403, NotPermitted), (500, ServiceAway)],
)
def test_answers_that_are_no_file(tmp_path: Path, status: int, fault: type[Exception]) -> None:
    """One line, with the number."""
    with WebServer(Manners(status=status)) as server, pytest.raises(fault, match=f"HTTP {status}"):
        fetch(tmp_path, server.url)


def test_nobody_there(tmp_path: Path) -> None:
    """A port that refuses, and a name that is none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for host in (f"localhost:{port}", "no.such.host.invalid"):
        with pytest.raises(ServiceAway, match="check the address"):
            fetch(tmp_path, f"http://{host}/street.zip")


def test_a_server_that_goes_silent_is_given_up(tmp_path: Path) -> None:
    """After the longest wait for the next byte, a few times."""
    hold = threading.Event()
    with WebServer(Manners(CONTENT, cuts=[5000, *[0] * 20], hold=hold)) as server:
        download = Download(tmp_path, SHA, silence_s=0.3, pause_s=0.0)
        try:
            with pytest.raises(ServiceAway, match="broke off"):
                download.fetch(server.url, lambda *_: None)
        finally:
            hold.set()


def test_redirects_are_followed_a_few_times(tmp_path: Path) -> None:
    """In circles they end."""
    with WebServer(Manners(CONTENT)) as target:
        with WebServer(Manners(status=302, location=target.url)) as server:
            assert fetch(tmp_path / "a", server.url)[0].read_bytes() == CONTENT
        circle = Manners(status=302)
        with WebServer(circle) as server:
            circle.location = server.url
            with pytest.raises(ServiceAway, match="circles"):
                fetch(tmp_path / "b", server.url)
    assert len(circle.requests) <= 12


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://localhost/x"])
def test_a_redirect_to_anything_but_http_is_not_followed(tmp_path: Path, location: str) -> None:
    """Least of all to a file of this device."""
    with WebServer(Manners(status=302, location=location)) as server, pytest.raises(ServiceAway):
        fetch(tmp_path, server.url)
    assert not list(tmp_path.glob("*.part"))


def test_a_login_in_the_url_goes_to_its_host_and_is_not_told(tmp_path: Path) -> None:
    """As a header to the first server, not to where that one leads, and in no message."""
    manners, target = Manners(status=302), Manners(CONTENT)
    with WebServer(manners) as server, WebServer(target) as other:
        manners.location = other.url
        fetch(tmp_path, server.url.replace("://", "://me:secret@"))
    assert manners.requests[0]["Authorization"].startswith("Basic ")
    assert "Authorization" not in target.requests[0]
    with WebServer(Manners(status=403)) as server, pytest.raises(NotPermitted) as fault:
        fetch(tmp_path / "b", server.url.replace("://", "://me:secret@"))
    assert "secret" not in str(fault.value)


def test_no_room_is_told_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the server says, with what others need left free."""
    monkeypatch.setattr("agent.modelstore.room.RESERVE_BYTES", 1 << 60)
    with WebServer(Manners(CONTENT)) as server, pytest.raises(CannotCreate, match="no room"):
        fetch(tmp_path, server.url)
    assert not (tmp_path / f"{SHA}.part").exists()


def test_a_server_that_says_nothing_leaves_the_others_their_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends without end, and not too much for a model: what events need stays free."""
    there = shutil.disk_usage(tmp_path)

    def usage(folder: Path) -> Any:
        took_bytes = sum(file.stat().st_size for file in folder.iterdir())
        return there._replace(free=RESERVE_BYTES + 40_000 - took_bytes)

    monkeypatch.setattr("agent.modelstore.room.shutil.disk_usage", usage)
    monkeypatch.setattr("agent.modelstore.download._CHUNK_BYTES", 10_000)
    with WebServer(Manners(CONTENT, said="")) as server, pytest.raises(CannotCreate, match="no room"):
        fetch(tmp_path, server.url)
    assert 0 < (tmp_path / f"{SHA}.part").stat().st_size <= 40_000


@pytest.mark.parametrize("sha", ["", "abc", "g" * 64, "0" * 63, "../" + "0" * 61])
def test_what_is_no_sha256_is_a_fault_of_the_command(tmp_path: Path, sha: str) -> None:
    """It becomes the name of a file."""
    with pytest.raises(UsageError):
        Download(tmp_path, sha)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:port/x"])
def test_urls_that_are_none(tmp_path: Path, url: str) -> None:
    """Each is a fault of the command or of the address, in one line."""
    with pytest.raises((UsageError, ServiceAway)):
        fetch(tmp_path, url)


def test_tls_is_checked_and_a_clock_that_is_off_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good certificate is taken; one for another time asks for the clock; there is no way around it."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    good = authority.issue("good", "localhost")
    with WebServer(Manners(CONTENT), (good.cert, good.key)) as server:
        assert fetch(tmp_path / "a", server.url)[0].read_bytes() == CONTENT
    bad = {"expired": ("localhost", -1, "the clock says 2"), "other": ("other", 1, "host name")}
    for name, (host, days, words) in bad.items():
        pair = authority.issue(name, host, days=days)
        with (
            WebServer(Manners(CONTENT), (pair.cert, pair.key)) as server,
            pytest.raises(ServiceAway, match=words),
        ):
            fetch(tmp_path / name, server.url)
    with (
        WebServer(Manners(CONTENT)) as plain,
        WebServer(Manners(status=302, location=plain.url), (good.cert, good.key)) as server,
        pytest.raises(ServiceAway, match="away from https"),
    ):
        fetch(tmp_path / "b", server.url)


def test_a_certificate_that_is_not_valid_now_asks_for_the_clock() -> None:
    """A clock that is off by a year is the usual reason on a board without a battery."""
    for code, words in ((9, "not yet valid"), (10, "has expired")):
        error = ssl.SSLCertVerificationError(1, "verify failed")
        error.verify_code, error.verify_message = code, f"certificate is {words}"
        fault = no_connection("https://host/x.zip", error)
        assert "the clock says 2" in str(fault)
        assert "is it set?" in str(fault)
