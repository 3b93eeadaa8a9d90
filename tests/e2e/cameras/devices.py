"""What only some machines have: a V4L2 device, and the system's Python bindings of GStreamer."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.capture import attached

SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")


def capture_device() -> str:
    """Return a V4L2 device that captures; skip the test where there is none."""
    for camera in attached.find_v4l2(Path("/")):
        if camera.source:
            return camera.device
    pytest.skip("no V4L2 camera here; `modprobe vivid` makes one")


@contextlib.contextmanager
def let_gi_in(folder: Path) -> Iterator[None]:
    """Make Debian's PyGObject importable, and nothing else of its packages, where it fits this Python.

    It stays on the path: a module of C code can't be imported twice. Skips the test where it is missing.
    """
    if importlib.util.find_spec("gi") is None:
        compiled = SYSTEM_PACKAGES / "gi" / f"_gi.{sysconfig.get_config_var('SOABI')}.so"
        if not compiled.exists():
            pytest.skip(f"no PyGObject for this Python: {compiled} is missing")
        (folder / "gi").symlink_to(SYSTEM_PACKAGES / "gi")
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    import gi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of PyGObject's own importer, on its first import
        for name in ("Gst", "GstApp", "GstVideo"):
            try:
                gi.require_version(name, "1.0")
            except ValueError as error:
                pytest.skip(f"apt install gir1.2-gst-plugins-base-1.0: {error}")
            importlib.import_module(f"gi.repository.{name}")
    yield
