"""Has `edge-agent model install` fetch and try a model, in a process of its own, and hears how that goes."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from agent.errors import AgentError, BadData, TryAgain
from agent.leashed import leashed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

    from agent.config import ModelsConfig

_LINE_BYTES = 1 << 16
_FAULTS = {kind.exit_code: kind for kind in AgentError.__subclasses__()}


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be installed: a zip of a bundle, with the sha256 of the zip, and which version it must be."""

    url: Annotated[str, msgspec.Meta(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://", max_length=2048)]
    sha256: str
    version: int | None = None


class Installer:
    """Installs into the store of `state_dir`, one model at a time, as the `terms` of the configuration say."""

    def __init__(self, state_dir: Path, terms: ModelsConfig) -> None:
        self._state_dir, self._terms = state_dir, terms
        self._busy = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def install(self, source: Source, progress: Callable[[Mapping[str, object]], None]) -> object:
        """Install `source`; return what the command says last, and pass on what it says before.

        Raises TryAgain while another one is installed, and the command's fault.
        """
        if not self._busy.acquire(blocking=False):
            raise TryAgain("a model is being installed", fix="ask again when that is done")
        try:
            with self._started(source) as child:
                self._child = child
                return _result(child, progress)
        finally:
            self._child = None
            self._busy.release()

    def close(self) -> None:
        """End an installation at work; what is loaded of the model is kept."""
        if (child := self._child) is not None:
            child.terminate()

    def _started(self, source: Source) -> subprocess.Popen[bytes]:
        version = () if source.version is None else ("--model-version", str(source.version))
        keys = [word for key in self._terms.trusted_keys for word in ("--trusted-key", key)]
        terms = (*keys, "--quota-mbytes", str(self._terms.quota_mbytes))
        options = ("--sha256", source.sha256, *version, "--state", str(self._state_dir), *terms, "--json")
        command = leashed("agent", "--log-format", "json", "model", "install", *options, "--", "-")
        child = subprocess.Popen(  # noqa: S603 - our own program, and no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdin is not None  # noqa: S101 - it is a pipe
        with (
            contextlib.suppress(BrokenPipeError),
            child.stdin as told,
        ):  # all can see a command line, and a URL may have a login
            told.write(source.url.encode() + b"\n")
        return child


def _result(child: subprocess.Popen[bytes], progress: Callable[[Mapping[str, object]], None]) -> object:
    """Return the last line of `child`; tell the others. Raises AgentError."""
    said: list[str] = []
    listener = threading.Thread(target=_listen, args=(child.stderr, said), name="install log", daemon=True)
    listener.start()
    last: dict[str, Any] | None = None
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    while line := child.stdout.readline(_LINE_BYTES):
        if last is not None:
            progress(last)
        try:
            last = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            continue
    code = child.wait()
    listener.join()
    if code == 0 and last is not None:
        return last
    if code < 0:
        raise TryAgain("the installation was ended", seen=f"signal {-code}", fix="ask again")
    raise _FAULTS.get(code, BadData)(said[-1] if said else f"the installation ended with {code}")


def _listen(stream: IO[bytes] | None, said: list[str]) -> None:
    """Keep the last error that the command logs."""
    while stream is not None and (line := stream.readline(_LINE_BYTES)):
        try:
            entry = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            continue
        if entry.get("level") == "error":
            said[:] = [str(entry.get("message", ""))]
