"""A mosquitto as ansible/mosquitto sets it up: TLS, a certificate for each device and each reader, the access list."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.brokers import wait_for
from tests.e2e.certificates import Authority
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NAME = "broker.lab"
FENCE = "fence"
_EXAMPLE = Path(__file__).parents[2] / "ansible/mosquitto"
_PORT = 8883
_FENCES = f"\nuser monitor\ntopic read {FENCE}\n\nuser operator\ntopic write {FENCE}\n"


@dataclass
class TlsBroker:
    """`folder` holds ca.pem, and NAME.pem and NAME.key of each user; `host`: its address; `start` begins a program."""

    folder: Path
    host: str
    start: Callable[..., subprocess.Popen[str]]
    port: int = _PORT
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def up(self) -> None:
        """Start it, and wait until it listens."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = self.start("/usr/sbin/mosquitto", "-c", str(self.folder / "mosquitto.conf"), **quiet)
        wait_for(self._listens, HANGS_S, "the broker to listen")

    def down(self) -> None:
        """End it in order; it keeps what its subscribers have not got yet."""
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            try:
                process.wait(HANGS_S)
            finally:
                process.kill()
                process.wait()

    def login(self, user: str) -> list[str]:
        """Return the user's options for mosquitto_pub and mosquitto_sub."""
        files = ("--cafile", "ca.pem"), ("--cert", f"{user}.pem"), ("--key", f"{user}.key")
        return ["-h", self.host, "-p", str(self.port)] + [
            part for option, name in files for part in (option, str(self.folder / name))
        ]

    def _listens(self) -> bool:
        probe = self.start("bash", "-c", f"</dev/tcp/{self.host}/{self.port}", stderr=subprocess.DEVNULL)
        return probe.wait(HANGS_S) == 0


@contextlib.contextmanager
def tls_broker(
    folder: Path, start: Callable[..., subprocess.Popen[str]], host: str, users: Sequence[str]
) -> Iterator[TlsBroker]:
    """Run it on `host` by `start`, with files in `folder`. `users` are devices, `monitor` and `operator`."""
    folder.mkdir()
    authority = Authority(folder)
    for name in users:
        authority.issue(name)
    authority.issue("broker", host, NAME)
    (folder / "acl").write_text((_EXAMPLE / "acl").read_text() + _FENCES)
    (folder / "acl").chmod(0o600)
    text = (_EXAMPLE / "mosquitto.conf").read_text()
    for old, new in {
        "/etc/mosquitto/certs": folder,
        "/etc/mosquitto": folder,
        "/var/lib/mosquitto/": f"{folder}/",
    }.items():
        text = text.replace(old, str(new))
    (folder / "mosquitto.conf").write_text(f"user root\n{text}\nlog_dest file {folder}/log\n")
    broker = TlsBroker(folder, host, start)
    try:
        broker.up()
        yield broker
    finally:
        broker.down()
