"""An RTSP server that sends what it is fed. Runs under the distribution's Python, for its GstRtspServer.

rtsp_server.py HOST PORT [USER PASSWORD]: access units of H.264 (Annex B), each after its length as 4 bytes
big-endian, come in on stdin and go out on rtsp://HOST:PORT/cam to every client, stamped with the time they
came; four bytes 255 and a double move the stamps of all that follow by so many seconds. Prints "ready" once it
listens, ends at the end of stdin. Exit code 77: gi or GStreamer is missing.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time

try:
    import gi

    for name, version in (("Gst", "1.0"), ("GstApp", "1.0"), ("GstRtspServer", "1.0")):
        gi.require_version(name, version)
    from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: F401 - GstApp gives appsrc its signals
except (ImportError, ValueError):
    sys.exit(77)

PIPELINE = (
    "( appsrc name=in is-live=true format=time block=false max-bytes=2000000 "
    "caps=video/x-h264,stream-format=byte-stream,alignment=au "
    "! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1 mtu=1400 )"
)


class Feeds:
    """The open appsrc elements, one for each running media."""

    def __init__(self):
        self._lock = threading.Lock()
        self._open = {}
        self.shift_s = 0.0

    def add(self, media):
        """Begin to feed a media that was just configured."""
        appsrc = media.get_element().get_by_name("in")
        with self._lock:
            self._open[appsrc] = time.monotonic()
        media.connect("unprepared", lambda _: self._drop(appsrc))

    def push(self, unit):
        """Send one access unit to everyone."""
        with self._lock:
            feeds = list(self._open.items())
        for appsrc, base_s in feeds:
            buffer = Gst.Buffer.new_wrapped(unit)
            buffer.pts = buffer.dts = max(0, int((time.monotonic() - base_s + self.shift_s) * 1e9))
            if appsrc.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                self._drop(appsrc)

    def _drop(self, appsrc):
        with self._lock:
            self._open.pop(appsrc, None)


def protect(server, factory, user, password):
    """Let only `user` in (RTSP basic authentication)."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", right, True)
    factory.set_permissions(permissions)


def feed(feeds, loop):
    """Read access units from stdin until it ends."""
    with os.fdopen(0, "rb") as stdin:
        while len(head := stdin.read(4)) == 4:
            if head == b"\xff\xff\xff\xff":
                feeds.shift_s = struct.unpack(">d", stdin.read(8))[0]
            else:
                feeds.push(stdin.read(int.from_bytes(head, "big")))
    loop.quit()


def main(host, port, *login):
    """Serve until stdin ends."""
    Gst.init(None)
    feeds, loop = Feeds(), GLib.MainLoop()
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    factory.set_latency(0)
    factory.connect("media-configure", lambda _, media: feeds.add(media))
    server = GstRtspServer.RTSPServer()
    server.set_address(host)
    server.set_service(port)
    if login:
        protect(server, factory, *login)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"can't listen on {host}:{port}")
    GLib.timeout_add_seconds(1, lambda: server.get_session_pool().cleanup() >= 0)
    threading.Thread(target=feed, args=(feeds, loop), daemon=True).start()
    print("ready", flush=True)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
