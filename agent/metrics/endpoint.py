"""`GET /metrics` over HTTP: one thread for all who ask, a time limit for each, a bound on how many."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from typing import TYPE_CHECKING

from agent.errors import CannotCreate
from agent.metrics.exposition import expose

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from agent.metrics.snapshot import Snapshot

log = logging.getLogger(__name__)

CLIENT_S = 5.0
"""How long a client may take to ask and to read the answer; Prometheus itself gives up after 10 s."""
CLIENTS = 16
"""How many may do so at the same time; who comes after them is sent away."""
_REQUEST_BYTES = 8192
_END_S = 2.0
_PLAIN = "text/plain; charset=utf-8"
_STATUS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class Endpoint:
    """Tells what `snapshot` returns to whoever asks at `host` and `port`, while the `with` block runs.

    `snapshot` is called on the endpoint's thread. With port 0 a free one is taken; `address` then has it.
    Raises CannotCreate when it can't listen there.
    """

    def __init__(
        self, host: str, port: int, snapshot: Callable[[], Snapshot], *, client_s: float = CLIENT_S
    ) -> None:
        self.address = (host, port)
        self._snapshot, self._client_s = snapshot, client_s
        self._clients = 0
        self._ready = threading.Event()
        self._fault: OSError | None = None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="metrics", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._fault is not None:
            host, port = self.address
            number = self._fault.errno or 0
            why = os.strerror(number) if number > 0 else self._fault.strerror
            what = f"can't serve metrics ({why})"
            fix = "give another metrics.listen, or stop what has this one"
            raise CannotCreate(what, seen=f"{host} port {port}", fix=fix)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_END_S)

    # -- the thread --

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._client, *self.address, limit=_REQUEST_BYTES)
            self.address = server.sockets[0].getsockname()[:2]
        except OSError as fault:
            self._fault = fault
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy = self._clients >= CLIENTS
        self._clients += not busy
        writer.transport.set_write_buffer_limits(high=0)  # drained is then sent
        try:
            await asyncio.wait_for(self._answer(reader, writer, busy=busy), self._client_s)
            writer.close()
        except (
            OSError,
            asyncio.TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            asyncio.CancelledError,  # the end
        ) as fault:
            log.debug("metrics: a client is sent away: %s", type(fault).__name__)
        finally:
            self._clients -= not busy
            if not writer.is_closing():
                writer.transport.abort()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, busy: bool
    ) -> None:
        head = b"" if busy else await reader.readuntil(b"\r\n\r\n")
        status, content_type, body = (
            (503, _PLAIN, b"busy\n") if busy else self._response(head.decode("latin-1"))
        )
        lines = (
            f"HTTP/1.1 {status} {_STATUS[status]}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)
        await writer.drain()

    def _response(self, head: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a request."""
        request = re.match(r"([A-Z]+) (\S+) HTTP/1\.[01]\r\n", head)
        if request is None:
            return 400, _PLAIN, b"this is HTTP\n"
        if request[1] != "GET":
            return 405, _PLAIN, b"GET /metrics\n"
        if request[2].partition("?")[0] != "/metrics":
            return 404, _PLAIN, b"try /metrics\n"
        accept = re.search(r"(?i)\r\naccept:([^\r\n]*)", head)
        try:
            return 200, *expose(self._snapshot(), accept[1].strip() if accept else "")
        except Exception as fault:  # noqa: BLE001 - the outermost level: the next one who asks may have luck
            log.error("metrics: %s: %s", type(fault).__name__, fault)
            return 500, _PLAIN, b"see the log of the agent\n"
