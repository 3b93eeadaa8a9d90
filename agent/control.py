"""The control socket: what runs on this device asks the agent. One JSON line each way, bounded in size and time."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent.errors import AgentError, CannotCreate, NotPermitted, ServiceAway, TryAgain, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Self

log = logging.getLogger(__name__)

SOCKET = "control.sock"
MAX_REQUEST_BYTES = 4096
MAX_ANSWER_BYTES = 1 << 20
_MODE = 0o660
_TALK_S = 2.0
"""For a client to ask, and again to take the answer."""
_CLIENTS = 16
"""So many are served at the same time."""
PATIENCE_S = 5.0
"""For what is answered at once."""
_REST_S = 1.0
_BACKLOG = 8


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends: {"op": "status"}; `args` are those of the operation."""

    op: str
    args: dict[str, Any] = {}


class Refusal(msgspec.Struct, frozen=True):
    """Why there is no answer, and the exit code that goes with it."""

    error: str
    exit_code: int = 70


class Does(Protocol):
    """Knows the operations; see `agent.operations`."""

    def do(
        self, name: str, args: Mapping[str, object], progress: Callable[[Mapping[str, object]], None]
    ) -> object:
        """Do `name` and return what came of it. Raises AgentError."""
        ...


class Control:
    """Answers on `folder`/control.sock, each client in a thread, with what `operations` say; that may take long.

    The folder is made where there is none, and the socket of a process that has died is replaced. Raises TryAgain
    when another agent answers there, CannotCreate when there can be no socket.
    """

    def __init__(self, folder: Path, operations: Does) -> None:
        self._operations, self._folder = operations, folder
        self._stopping = threading.Event()
        self._free = threading.Semaphore(_CLIENTS)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _short(self._folder) as place:
                if _answers(place / SOCKET):
                    fix = "give each agent a state directory of its own"
                    raise TryAgain(f"another agent answers on {self._folder / SOCKET}", fix=fix)
                self._listener = _listen(place)
                self._inode = (place / SOCKET).stat().st_ino
        except OSError as error:
            what, fix = f"control socket in {self._folder}", "let the agent's user write there"
            raise CannotCreate(what, seen=error.strerror or error, fix=fix) from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(_TALK_S + _REST_S)
        self._listener.close()
        with contextlib.suppress(OSError), _short(self._folder) as place:
            if (place / SOCKET).stat().st_ino == self._inode:
                (place / SOCKET).unlink()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if not self._free.acquire(timeout=_REST_S):
                continue
            try:
                link, _ = self._listener.accept()
                threading.Thread(
                    target=self._client, args=(link,), name="control client", daemon=True
                ).start()
            except (OSError, RuntimeError):  # the end, or no descriptor or thread is free
                self._free.release()
                self._stopping.wait(_REST_S)

    def _client(self, link: socket.socket) -> None:
        try:
            with link, contextlib.suppress(OSError):
                self._talk(link)
        finally:
            self._free.release()

    def _talk(self, link: socket.socket) -> None:
        deadline_s = time.monotonic() + _TALK_S
        answer = self._answer(_read_line(link, deadline_s, MAX_REQUEST_BYTES))
        link.settimeout(_TALK_S)
        link.sendall(answer + b"\n")

    def _answer(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, RecursionError):
            return _refusal('one line is expected: {"op": "status"}', UsageError.exit_code)
        try:
            return msgspec.json.encode(self._operations.do(request.op, request.args, _unheard))
        except AgentError as fault:
            return _refusal(str(fault), fault.exit_code)
        except Exception as fault:  # noqa: BLE001  the outermost level of the thread: it goes on for the next client
            log.error("control: %s: %s: %s", request.op, type(fault).__name__, fault)
            return _refusal(f"internal error: {type(fault).__name__}")


def _unheard(_: Mapping[str, object]) -> None:
    """Tell nobody how it goes: one line is the answer."""


def socket_folder(state_dir: Path, environ: Mapping[str, str]) -> Path:
    """Return where an agent has its socket: in systemd's runtime directory, else in its state directory."""
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(runtime) if runtime else state_dir


def ask(
    folder: Path, op: str, args: Mapping[str, object] | None = None, *, patience_s: float = PATIENCE_S
) -> bytes:
    """Return what the agent answers on the socket in `folder`: a JSON document.

    Raises ServiceAway where no agent answers, or one does not within `patience_s`; NotPermitted.
    """
    what = f"no agent answers on {folder / SOCKET}"
    fix = "start it, or name its state directory with --state"
    deadline_s = time.monotonic() + patience_s
    try:
        with _short(folder) as place, socket.socket(socket.AF_UNIX) as link:
            link.settimeout(patience_s)
            link.connect(str(place / SOCKET))
            link.sendall(msgspec.json.encode(Request(op, dict(args or {}))) + b"\n")
            answer = _read_line(link, deadline_s, MAX_ANSWER_BYTES)
    except PermissionError as error:
        fix = "run it as the agent's user, or as one of its group"
        raise NotPermitted(f"control socket {folder / SOCKET}", seen=error.strerror, fix=fix) from None
    except TimeoutError:
        hangs = f"an agent is there and does not answer within {patience_s:g} s on {folder / SOCKET}"
        raise ServiceAway(hangs, fix="it hangs: restart it") from None
    except OSError as error:
        raise ServiceAway(what, seen=error.strerror or error, fix=fix) from None
    if not answer.endswith(b"\n"):
        raise ServiceAway(what, seen=f"an answer of {len(answer)} bytes without an end", fix="try again")
    return answer


def answered(answer: bytes) -> Any:
    """Return the document of an `answer`. Raises what the agent could not do it for, ServiceAway for nonsense."""
    try:
        found = msgspec.json.decode(answer)
    except msgspec.MsgspecError:
        raise ServiceAway(
            "the agent's answer can't be read", seen=answer[:200].decode(errors="replace")
        ) from None
    if isinstance(found, dict) and isinstance(error := found.get("error"), str) and "exit_code" in found:
        kinds = {kind.exit_code: kind for kind in AgentError.__subclasses__()}
        raise kinds.get(found["exit_code"], ServiceAway)(error)
    return found


def _refusal(text: str, exit_code: int = AgentError.exit_code) -> bytes:
    return msgspec.json.encode(Refusal(text, exit_code))


def _read_line(link: socket.socket, deadline_s: float, max_bytes: int) -> bytes:
    """Return what came until a newline, the end, or `max_bytes`. Raises TimeoutError."""
    line = b""
    while not line.endswith(b"\n") and len(line) < max_bytes:
        link.settimeout(max(0.01, deadline_s - time.monotonic()))
        if not (chunk := link.recv(min(65536, max_bytes - len(line)))):
            break
        line += chunk
        if time.monotonic() > deadline_s:
            raise TimeoutError("too slow")
    return line


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[Path]:
    """Yield a short path of `folder`: that of a socket holds 107 bytes (unix(7))."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def _answers(path: Path) -> bool:
    """Tell whether a process listens on `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_TALK_S)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _listen(place: Path) -> socket.socket:
    """Return a socket that listens as SOCKET in `place`; nobody can connect before its mode is set."""
    mine = place / f"{SOCKET}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    try:
        mine.unlink(missing_ok=True)
        listener.bind(str(mine))
        mine.chmod(_MODE)
        listener.listen(_BACKLOG)
        mine.replace(place / SOCKET)
    except OSError:
        listener.close()
        raise
    return listener
