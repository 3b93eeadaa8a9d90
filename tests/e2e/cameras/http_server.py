"""An HTTP server on loopback that serves clips and an endless MJPEG, and fails on command."""

from __future__ import annotations

import io
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av

from tests.e2e.cameras.rtsp import picture
from tests.patience import HANGS_S

BOUNDARY = "frame"
JPEG_HZ = 20.0


def jpeg(number: int) -> bytes:
    """Return one picture with the time strip as JPEG."""
    target = io.BytesIO()
    with av.open(target, "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        out.mux(stream.encode(picture(320, 240, number).reformat(format="yuvj420p")))
        out.mux(stream.encode(None))
    return target.getvalue()


class HttpServer:
    """A context manager. Serves `files`, /live (endless MJPEG), /status/NNN (that answer) and /hang (none).

    `silent` True stops /live while its connections stay; `cut_at` ends bodies after that many bytes.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.silent = False
        self.cut_at: int | None = None
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def url(self, path: str) -> str:
        """Return the URL of `path`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def __enter__(self) -> HttpServer:  # noqa: PYI034 - typing.Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(HANGS_S)


def _handler(server: HttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            try:
                self._answer(self.path.strip("/"))
            except OSError:
                return

        def _answer(self, path: str) -> None:
            if path == "hang":
                server.ended.wait()
            elif path == "live":
                self._live()
            elif path in server.files:
                self._file(server.files[path])
            else:
                wanted = re.fullmatch(r"status/(\d+)", path)
                self._head(int(wanted[1]) if wanted else 404, 0)

        def _head(self, status: int, length: int | None, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")
            self.end_headers()

        def _file(self, body: bytes) -> None:
            wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted else 0
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._head(206 if wanted else 200, len(body) - start, Accept_Ranges="bytes", Content_Range=span)
            self.wfile.write(body[start : server.cut_at])

        def _live(self) -> None:
            self._head(200, None, Content_Type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            number = 0
            while not server.ended.wait(1 / JPEG_HZ):
                number += 1
                if not server.silent:
                    body = jpeg(number)
                    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                    self.wfile.write(head.encode() + body + b"\r\n")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
