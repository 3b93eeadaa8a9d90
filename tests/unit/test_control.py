"""The control socket: bounded, private, and never in the way of the agent."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import control
from agent.control import SOCKET, Control, answered, ask
from agent.errors import CannotCreate, NotPermitted, ServiceAway, TryAgain, UsageError
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Answers:
    """Operations by name, each a function of its arguments; an unknown one is a mistake of whoever asks."""

    def __init__(self, **table: Callable[[Mapping[str, object]], object]) -> None:
        self._table = table

    def do(self, name: str, args: Mapping[str, object], progress: object) -> object:
        if name not in self._table:
            raise UsageError("unknown operation", seen=name, fix=f"there is {', '.join(self._table)}")
        return self._table[name](args)


def send(request: bytes) -> bytes:
    """Return what is answered to `request`, until the other side closes."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(HANGS_S)
        link.connect(SOCKET)
        link.sendall(request)
        answer = b""
        while chunk := link.recv(65536):
            answer += chunk
        return answer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory whose path is too long for a socket's, and go there."""
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.chdir(deep)
    return deep


def test_a_question_is_answered_and_nothing_stays(folder: Path) -> None:
    """The document of the operation comes back in one line; at the end the socket is gone."""
    with Control(folder, Answers(status=lambda _: {"verdict": "ok"})):
        assert json.loads(ask(folder, "status")) == {"verdict": "ok"}
        assert json.loads(ask(folder, "status")) == {"verdict": "ok"}
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o660
    assert list(folder.iterdir()) == []
    with pytest.raises(ServiceAway, match="no agent answers"):
        ask(folder, "status")


@given(
    st.binary(max_size=200) | st.sampled_from([b"[" * 4000, b'{"op": 1}', b'{"op": "stop", "x": 1}', b"\xff"])
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_is_refused_in_words(folder: Path, request_bytes: bytes) -> None:
    """Whatever is sent, one line of JSON says what was expected, and the next client is served."""
    with Control(folder, Answers(status=lambda _: 1)):
        assert "error" in json.loads(send(request_bytes.replace(b"\n", b"") + b"\n"))
        assert ask(folder, "status") == b"1\n"


def test_what_it_can_t_do_it_says(folder: Path) -> None:
    """An unknown operation is refused with its exit code; one that fails says so and ends nothing."""

    def fail(_: object) -> object:
        raise RuntimeError("secret")

    with Control(folder, Answers(status=fail)):
        with pytest.raises(UsageError, match="unknown operation: restart; there is status"):
            answered(ask(folder, "restart"))
        answer = ask(folder, "status")
        assert b"internal error: RuntimeError" in answer
        assert b"secret" not in answer


def test_a_request_is_bounded(folder: Path) -> None:
    """Ten megabytes are not read to the end."""
    with Control(folder, Answers(status=lambda _: 1)), socket.socket(socket.AF_UNIX) as link:
        link.settimeout(HANGS_S)
        link.connect(SOCKET)
        with pytest.raises(OSError):  # noqa: PT011 - a pipe that breaks or a connection that is reset
            link.sendall(b"x" * 10_000_000)
        assert ask(folder, "status") == b"1\n"


def test_a_client_that_says_nothing_holds_nobody_for_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next client gets its answer once the silent one has had its time."""
    monkeypatch.setattr(control, "_TALK_S", 1.0)
    with Control(folder, Answers(status=lambda _: 1)), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(SOCKET)
        assert ask(folder, "status") == b"1\n"


def test_idle_clients_hold_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several that say nothing, with an hour for each: who asks is answered meanwhile."""
    monkeypatch.setattr(control, "_TALK_S", 3600.0)
    with ExitStack() as stack, Control(folder, Answers(status=lambda _: 1)):
        links = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
        for link in links:
            link.settimeout(HANGS_S)
            link.connect(SOCKET)
        assert ask(folder, "status") == b"1\n"


def test_idle_clients_are_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in the end."""
    monkeypatch.setattr(control, "_TALK_S", 0.2)
    with ExitStack() as stack, Control(folder, Answers(status=lambda _: 1)):
        links = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
        for link in links:
            link.settimeout(HANGS_S)
            link.connect(SOCKET)
        assert [link.recv(1) for link in links] == [b""] * 8


def test_more_than_can_be_served_wait_their_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd makes no crowd of threads."""
    monkeypatch.setattr(control, "_TALK_S", 1.0)
    monkeypatch.setattr(control, "_CLIENTS", 2)
    with ExitStack() as stack, Control(folder, Answers(status=lambda _: 1)):
        for _ in range(4):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(SOCKET)
        assert ask(folder, "status") == b"1\n"
        assert sum(thread.name == "control client" for thread in threading.enumerate()) <= 2


def test_the_socket_of_a_dead_process_is_replaced(folder: Path) -> None:
    """One that nobody listens on is no obstacle; one that answers is another agent's."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(SOCKET)
    with Control(folder, Answers(status=lambda _: 1)):
        with pytest.raises(TryAgain, match="another agent"), Control(folder, Answers(status=lambda _: 2)):
            pass
        assert ask(folder, "status") == b"1\n"


def test_who_ends_leaves_the_socket_of_another(folder: Path) -> None:
    """An agent whose socket was replaced takes only its own away."""
    first, second = Control(folder, Answers(status=lambda _: 1)), Control(folder, Answers(status=lambda _: 2))
    first.__enter__()
    (folder / SOCKET).unlink()
    with second:
        first.__exit__()
        assert ask(folder, "status") == b"2\n"


def test_no_place_for_a_socket_is_told(tmp_path: Path) -> None:
    """A directory that can't be is one line, for the agent and for who asks."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate, match="control socket"), Control(tmp_path / "file" / "none", Answers()):
        pass
    with pytest.raises(ServiceAway):
        ask(tmp_path / "none", "status")


def test_a_socket_of_somebody_else_is_not_permitted(folder: Path) -> None:
    """Without the right to write to it the answer is what to do about that."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with Control(folder, Answers(status=lambda _: 1)):
        (folder / SOCKET).chmod(0)
        with pytest.raises(NotPermitted, match="as the agent's user"):
            ask(folder, "status")


def test_the_folder_is_made(tmp_path: Path) -> None:
    """The first agent of a user finds no state directory yet."""
    with Control(tmp_path / "new" / "state", Answers(status=lambda _: 1)):
        assert ask(tmp_path / "new" / "state", "status") == b"1\n"


def test_an_agent_that_hangs_is_not_told_as_none(folder: Path) -> None:
    """A stopped process still takes connections: the fix is to restart it, not to start it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        with pytest.raises(ServiceAway, match=r"an agent is there and does not answer .*restart it"):
            ask(folder, "status", patience_s=0.2)


def test_arguments_reach_the_operation_however_long_it_takes(folder: Path) -> None:
    """What takes longer than a client may take to ask is answered all the same; who asks says how long to wait."""
    go_on = threading.Event()

    def double(args: Mapping[str, object]) -> object:
        go_on.wait(HANGS_S)
        return {"twice": args["text"]}

    with Control(folder, Answers(double=double)):
        threading.Timer(control._TALK_S + 0.5, go_on.set).start()
        assert answered(ask(folder, "double", {"text": "a"}, patience_s=HANGS_S)) == {"twice": "a"}
