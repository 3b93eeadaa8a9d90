"""A 64-bit ARM system under QEMU's user-mode emulation: how the agent behaves there, never how fast."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli

from tests.hosts.base import DEBIAN, PYTHON, ROOT, or_skip
from tests.unit.hardware.boards import TREES

EMULATOR = "qemu-aarch64-static"
_PACKAGES = f"python3,python{PYTHON},libc6,libstdc++6,libgomp1,libgcc-s1,ca-certificates,coreutils"
_GLIBC = (17, 27, 28, 31, 34)
_ENTER = """\
set -e
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $binfmt/register
root=$1 proc=$2 sys=$3; shift 3
if [ "$proc" ]; then
  mount -t proc proc $root/proc
  mount --bind $proc/cpuinfo $root/proc/cpuinfo
else
  mount -t proc -o subset=pid proc $root/proc
fi
[ -z "$sys" ] || mount --bind $sys $root/sys
mount --bind /dev $root/dev
mount --bind ${root%/*}/site $root/site
mount --bind $SOURCE $root/src
mount -o remount,bind,ro $root/src
exec chroot $root env -i "$@"
"""


@dataclass(frozen=True)
class Arm:
    """An emulated board. `folder` holds the system and Python's packages, `tree` the board's /proc and /sys."""

    folder: Path
    tree: Path
    cpu: str

    def run(
        self, *command: str, hide_proc: bool = False, hide_sys: bool = False, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with `command` in it, with the agent of this tree; without /proc/cpuinfo or /sys if so wanted."""
        places = [
            "" if hidden else str(self.tree / name)
            for name, hidden in (("proc", hide_proc), ("sys", hide_sys))
        ]
        settings = ("PATH=/usr/bin:/bin", "HOME=/root", "PYTHONPATH=/site:/src", "PYTHONDONTWRITEBYTECODE=1")
        enter = (
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            _ENTER,
            "sh",
            str(self.system),
            *places,
        )
        return subprocess.run(
            [*enter, f"QEMU_CPU={self.cpu}", *settings, "/usr/bin/python3", *command],
            capture_output=True, text=True, timeout=timeout_s, check=False, env=os.environ | {"SOURCE": str(ROOT)},
        )  # fmt: skip

    @property
    def system(self) -> Path:
        """The root of its file system."""
        return self.folder / "system"


def skip_unless_possible() -> None:
    """Skip the test where nothing can be emulated, and say what is missing."""
    if os.geteuid():
        pytest.skip("emulating a system needs root")
    if missing := [tool for tool in (EMULATOR, "mmdebstrap", "unshare") if shutil.which(tool) is None]:
        pytest.skip(
            f"not installed: {', '.join(missing)} (apt install qemu-user-static mmdebstrap util-linux)"
        )
    if not Path("/proc/sys/fs/binfmt_misc").exists():
        pytest.skip("this kernel has no binfmt_misc")


def make_system(folder: Path) -> None:
    """Make Debian for ARM with what the agent needs in `folder`; what is there already is used again.

    No program of it is run for that. Skips the test when neither `folder` nor the network has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (system := folder / "system").exists():
        part = folder / "system.part"
        shutil.rmtree(part, ignore_errors=True)
        how = (
            "--quiet",
            "--skip=check/qemu",
            "--architectures=arm64",
            "--variant=extract",
            f"--include={_PACKAGES}",
        )
        or_skip(["mmdebstrap", *how, DEBIAN, str(part)])
        for name in ("proc", "sys", "dev", "root", "site", "src", "tmp"):
            (part / name).mkdir(exist_ok=True)
        part.rename(system)
    if not (site := folder / "site").exists():
        part = folder / "site.part"
        shutil.rmtree(part, ignore_errors=True)
        needs = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in _GLIBC)]
        kinds = [f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")]
        pip = (
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "install",
            f"--target={part}",
        )
        wheels = [*(f"--platform={platform}" for platform in platforms), *kinds, f"--python-version={PYTHON}"]
        or_skip([*pip, *wheels, "--implementation=cp", "--only-binary=:all:", *needs])
        part.rename(site)


def board(folder: Path, name: str, cpu: str, tree: Path) -> Arm:
    """Return the board `name` of tests/unit/hardware/boards.py, whose files are written to `tree`."""
    made = TREES[name]
    made.build(tree)
    shutil.copytree(tree / "proc/device-tree", tree / "sys/firmware/devicetree/base")
    cpus = tree / "sys/devices/system/cpu"
    every = f"0-{made.cpus - 1}\n"
    for what in ("present", "possible", "online"):
        (cpus / what).write_text(every)
    (cpus / "kernel_max").write_text(f"{made.cpus - 1}\n")
    for number in range(made.cpus):
        topology = cpus / f"cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{number}\n")
        (topology / "core_siblings_list").write_text(every)
        (topology / "thread_siblings_list").write_text(f"{number}\n")
    return Arm(folder, tree, cpu)
