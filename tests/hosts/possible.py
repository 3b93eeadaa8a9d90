"""Whether hosts can be booted on this machine: tried out, for a container may forbid what its programs could do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from tests.hosts.cgroups import hierarchies, make_group, remove_group
from tests.hosts.undoing import call

_SPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")


def why_not() -> str:
    """Return what the kernel refuses of all that a host needs; "" where it can be booted."""
    name = f"edge-{os.getpid()}-try"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-agent-try-")))
        try:
            _mount_layers(folder)
            stack.callback(call, "umount", str(folder / "root"))
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True, check=False)
            call("ip", "netns", "add", name)
            call("unshare", *_SPACES, "--fork", "true")
            for group in [part / name for part in hierarchies()]:
                make_group(group)
                stack.callback(remove_group, group)
        except subprocess.CalledProcessError as error:
            return f"{' '.join(error.cmd[:3])}: {error.stderr.decode(errors='replace').strip()}"
        except OSError as error:
            return str(error)
    return ""


def _mount_layers(folder: Path) -> None:
    layers = {name: folder / name for name in ("lower", "upper", "work", "root")}
    for layer in layers.values():
        layer.mkdir()
    options = f"lowerdir={layers['lower']},upperdir={layers['upper']},workdir={layers['work']}"
    call("mount", "-t", "overlay", "overlay", "-o", options, str(layers["root"]))
