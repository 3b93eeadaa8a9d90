"""A small virtual machine that runs the storm on a disk of its own: this Python, the agent, a kernel, nothing else.

The machine's memory disk is packed from this installation, so that it is the very code under test. The kernel comes
from apt once (about 70 MB) and is kept in the work directory.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
TOOLS = ("qemu-system-x86_64", "busybox", "modprobe", "depmod", "cpio", "gzip", "mke2fs", "ldd", "losetup")
PACKAGES = ("numpy", "numpy.libs", "msgspec", "paho")
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
_UNUSED = shutil.ignore_patterns(
    "__pycache__", "site-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "*.a"
)
_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
while read file; do $b insmod /modules/$file; done < /modules/order
for try in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] && break; $b sleep 0.2; done
$b mount -t ext4 /dev/vda /state && $b ifconfig lo up 127.0.0.1 && cd /repo
export PYTHONPATH=/repo:/site PYTHONDONTWRITEBYTECODE=1 HOME=/
{python} -m tests.faults.storm --state /state/agent --port 1 --hz {hz} 2>&1
echo "the storm ended: $?"; $b poweroff -f
"""


class CannotRun(Exception):
    """This machine can't run the virtual one; the text says what is missing."""


def kernel_in(work: Path) -> tuple[Path, str]:
    """Return the directory of a Debian kernel, from `work` or from apt, and its version. Raises CannotRun."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") is None]
    if missing:
        raise CannotRun(f"not installed: {', '.join(missing)}")
    kernel = work / "kernel"
    if not kernel.is_dir():
        told = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True)
        wanted = re.search(r"Depends: (linux-image\S+)", told.stdout)
        if wanted is None or subprocess.run(["apt-get", "-qq", "download", wanted[1]], cwd=work).returncode:
            raise CannotRun("apt has no kernel")
        subprocess.run(["dpkg", "-x", next(work.glob("linux-image*.deb")), work / "kernel.new"], check=True)
        (work / "kernel.new").rename(kernel)
    (version,) = [path.name for path in (kernel / "lib/modules").iterdir()]
    subprocess.run(["depmod", "-b", kernel, version], check=True)
    return kernel, version


def pack(work: Path, kernel: Path, version: str, *, hz: float) -> Path:
    """Return the packed memory disk: Python, its packages, the agent and the storm."""
    root = work / "memory-disk"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "state", "tmp", "modules", "site", "repo/tests"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    python = Path(sys.executable).resolve()
    _copy_tree(Path(sysconfig.get_path("stdlib")), root)
    _copy_tree(Path(sysconfig.get_config_var("DESTSHARED")), root)
    site = Path(sysconfig.get_path("platlib"))
    for package in PACKAGES:
        if (site / package).is_dir():
            shutil.copytree(site / package, root / "site" / package, ignore=_UNUSED)
    shutil.copytree(ROOT / "agent", root / "repo/agent", ignore=_UNUSED)
    shutil.copytree(ROOT / "tests/faults", root / "repo/tests/faults", ignore=_UNUSED)
    (root / "repo/tests/__init__.py").touch()
    for library in {python, *_libraries([python, *root.rglob("*.so"), *root.rglob("*.so.*")])}:
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "modules/order").write_text("".join(f"{name}\n" for name in _put_modules(root, kernel, version)))
    (root / "init").write_text(_INIT.format(python=python, hz=hz))
    (root / "init").chmod(0o755)
    packed = work / "memory-disk.gz"
    pack_it = f"find . | cpio -o -H newc --quiet | gzip -1 > '{packed}'"
    subprocess.run(["sh", "-c", pack_it], cwd=root, check=True)
    shutil.rmtree(root)
    return packed


def make_disk(path: Path, *, mib: int = 64) -> None:
    """Make an empty ext4 in the file `path`."""
    with path.open("wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path], check=True)


@contextlib.contextmanager
def running(
    kernel: Path, version: str, packed: Path, disk: Path, serial: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the machine; what it says goes to the file `serial`. It is killed in the end."""
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1", "-nodefaults"]
    command += ["-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"]
    command += ["-kernel", str(kernel / f"boot/vmlinuz-{version}"), "-initrd", str(packed)]
    command += ["-append", "console=ttyS0 quiet panic=-1"]
    command += ["-drive", f"file={disk},format=raw,if=virtio,cache=writeback"]
    machine = subprocess.Popen(command)
    try:
        yield machine
    finally:
        machine.kill()
        machine.wait()


def _copy_tree(source: Path, root: Path) -> None:
    """Copy `source` to the same place below `root`."""
    shutil.copytree(source, root / source.relative_to("/"), ignore=_UNUSED, dirs_exist_ok=True)


def _libraries(files: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that `files` need."""
    told = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", told, re.MULTILINE)
    return {Path(name) for name in found if "/memory-disk/" not in name}


def _put_modules(root: Path, kernel: Path, version: str) -> list[str]:
    """Copy the kernel's modules; return their names in the order of loading."""
    names: dict[str, None] = {}
    for module in MODULES:
        command = ["modprobe", "-d", str(kernel), "-S", version, "--show-depends", module]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for file in re.findall(r"^insmod (\S+)", told, re.MULTILINE):
            shutil.copy(file, root / "modules")
            names[Path(file).name] = None
    return list(names)
