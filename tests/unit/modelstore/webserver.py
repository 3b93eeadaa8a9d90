"""A web server for downloads: it serves one file, as well or as badly as it is told."""

from __future__ import annotations

import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from typing_extensions import Self


@dataclass
class Manners:
    """How the server behaves. `cuts`: how many bytes each answer has before the connection is cut, one after another.

    `said` is the length that is told in place of the right one, "" for none; `more` comes after the file.
    `etags` are told one after another, the last for good. `requests` are the headers of what was asked.
    """

    content: bytes = b"x" * 100_000
    status: int = 200
    location: str = ""
    cuts: list[int] = field(default_factory=list)
    said: str | None = None
    more: bytes = b""
    ranges: bool = True
    etags: list[str] = field(default_factory=lambda: ['"one"'])
    hold: threading.Event | None = None
    requests: list[dict[str, str]] = field(default_factory=list)


class WebServer:
    """Serves `manners` on a free port while the `with` block runs; with a certificate, over TLS."""

    def __init__(self, manners: Manners, certificate: tuple[Path, Path] | None = None) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(manners))
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # connections are cut
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://localhost:{self._server.server_address[1]}/street.zip"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(manners: Manners) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            manners.requests.append(dict(self.headers))
            if manners.status != 200:
                self.send_response(manners.status)
                self.send_header("Location", manners.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            etag = manners.etags.pop(0) if len(manners.etags) > 1 else manners.etags[0]
            begin = self._begin(etag)
            rest = manners.content[begin:]
            self.send_response(206 if begin else 200)
            if begin:
                whole = len(manners.content)
                self.send_header("Content-Range", f"bytes {begin}-{whole - 1}/{whole}")
            said = str(len(rest)) if manners.said is None else manners.said
            if said:
                self.send_header("Content-Length", said)
            self.send_header("ETag", etag)
            self.end_headers()
            cut = manners.cuts.pop(0) if manners.cuts else len(rest)
            self.wfile.write(rest[:cut] + (manners.more if cut >= len(rest) else b""))
            if manners.hold:
                self.wfile.flush()
                manners.hold.wait()

        def _begin(self, etag: str) -> int:
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if not found or not manners.ranges or self.headers.get("If-Range", etag) != etag:
                return 0
            return int(found[1])

        def log_message(self, *_: object) -> None:
            return

    return Handler
