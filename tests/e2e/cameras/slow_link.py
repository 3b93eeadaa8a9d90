"""A TCP relay on loopback that lets only so many bytes a second through towards the client."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.patience import HANGS_S

CHUNK_BYTES = 2048


class SlowLink:
    """Relays connections to `port` of loopback; a context manager. `limit_bytes_s` may change; None is no limit."""

    def __init__(self, port: int) -> None:
        self.limit_bytes_s: float | None = None
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._ended = threading.Event()
        self._open: list[socket.socket] = []

    def __enter__(self) -> SlowLink:  # noqa: PYI034 - typing.Self is not in Python 3.10
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._server.accept()
                camera = socket.create_connection(("127.0.0.1", self._target), timeout=HANGS_S)
            except OSError:
                continue
            camera.settimeout(None)
            camera.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            self._open += [client, camera]
            threading.Thread(target=self._relay, args=(client, camera, False), daemon=True).start()
            threading.Thread(target=self._relay, args=(camera, client, True), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                sink.sendall(data)
                if limited and self.limit_bytes_s:
                    self._ended.wait(len(data) / self.limit_bytes_s)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
