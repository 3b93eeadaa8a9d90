"""The system that the hosts boot: Debian 12, made once with mmdebstrap, and the agent as wheels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from agent.starter import sample_clip

ROOT = Path(__file__).parents[2]
DEBIAN, PYTHON = "bookworm", "3.11"
_PACKAGES = "systemd,systemd-sysv,dbus,python3-venv,passwd"
_OF_THE_WHEEL = (
    *("agent", "calibration", "models", "systemd", "tests/data/sample"),
    *("pyproject.toml", "README.md", "LICENSE"),
)
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
_INIT = """\
#!/bin/sh
# nspawn mounts the controllers of cgroup v1 read-only: then MemoryMax, TasksMax and DevicePolicy would do nothing.
for name in memory pids devices cpu cpuacct blkio; do
  mount -o remount,bind,rw /sys/fs/cgroup/$name 2>/dev/null
done
exec /lib/systemd/systemd
"""
_IDLE_UNITS = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer")


@dataclass(frozen=True)
class Base:
    """`system`: the root that hosts boot a copy of; `lab`: what they see read-only as /srv/lab."""

    system: Path
    lab: Path


def skip_unless_possible() -> None:
    """Skip the test where no host can be booted, and say what is missing."""
    if os.geteuid():
        pytest.skip("booting hosts needs root")
    tools = ("systemd-nspawn", "mmdebstrap", "ip", "nsenter", "mosquitto", "mosquitto_sub")
    search = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [tool for tool in tools if shutil.which(tool, path=search) is None]:
        pytest.skip(
            f"not installed: {', '.join(missing)} (apt install systemd-container mmdebstrap iproute2 mosquitto"
            " mosquitto-clients)"
        )


def make_base(folder: Path) -> Base:
    """Return the base in `folder`, with what is already there used again and the agent's wheel made anew.

    Skips the test when neither `folder` nor the network has it.
    """
    lab = folder / "lab"
    (lab / "wheels").mkdir(parents=True, exist_ok=True)
    _make_wheels(folder, lab / "wheels")
    if not (clip := lab / "long.mp4").exists():
        make_long_clip(clip, times=60)
    system = folder / "system"
    if not system.exists():
        _make_system(folder, system, lab)
    return Base(system, lab)


def _make_wheels(folder: Path, wheels: Path) -> None:
    """Make the wheel of this tree, and get those it needs."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    for name in _OF_THE_WHEEL:
        part, copy = ROOT / name, source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(part, copy, ignore=ignored) if part.is_dir() else shutil.copy(part, copy)
    for old in wheels.glob("edge_agent-*.whl"):
        old.unlink()
    or_skip([*_PIP, "download", "--no-deps", "--dest", str(folder), "setuptools>=77"])
    _run([*_PIP, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)])
    (own,) = wheels.glob("edge_agent-*.whl")
    needs = _dependencies()
    stamp = wheels / "dependencies"
    if not stamp.exists() or stamp.read_text() != needs:
        options = ["--only-binary=:all:", f"--python-version={PYTHON}", "--dest", str(wheels)]
        or_skip([*_PIP, "download", *options, str(own)])
        stamp.write_text(needs)


def _dependencies() -> str:
    """Return what pyproject.toml says that the agent needs, as text."""
    text = (ROOT / "pyproject.toml").read_text()
    return text.partition("\ndependencies = [")[2].partition("\n]")[0]


def _make_system(folder: Path, system: Path, lab: Path) -> None:
    archive, part = folder / f"{DEBIAN}.tar", folder / "system.part"
    if not archive.exists():
        made = folder / f"{DEBIAN}.part.tar"
        or_skip(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", DEBIAN, str(made)])
        made.rename(archive)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _run(["tar", "-C", str(part), "-xf", str(archive)])
    (part / "sbin/lab-init").write_text(_INIT)
    (part / "sbin/lab-init").chmod(0o755)
    (part / "etc/machine-id").write_text("")
    (part / "etc/resolv.conf").unlink(missing_ok=True)
    (part / "var/log/journal").mkdir(exist_ok=True)
    for unit in _IDLE_UNITS:
        (part / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _run(["chroot", str(part), "python3", "-m", "venv", "/opt/edge-agent"])
    shutil.copytree(lab / "wheels", part / "wheels")
    pip = ["/opt/edge-agent/bin/pip", "--quiet", "install", "--no-index", "--find-links=/wheels"]
    _run(["chroot", str(part), *pip, "edge-agent"])
    _run(["chroot", str(part), "/opt/edge-agent/bin/pip", "--quiet", "uninstall", "--yes", "edge-agent"])
    shutil.rmtree(part / "wheels")
    part.rename(system)


def make_long_clip(path: Path, *, times: int) -> None:
    """Write the sample clip `times` over, one after the other, without encoding it again."""
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w") as out:
        with av.open(str(sample_clip())) as clip:
            target = out.add_stream_from_template(clip.streams.video[0])
        shift = 0
        for _ in range(times):
            with av.open(str(sample_clip())) as clip:
                stream = clip.streams.video[0]
                end = 0
                for packet in clip.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = target
                    out.mux(packet)
                shift += end
    part.rename(path)


def or_skip(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        pytest.skip(f"{Path(command[0]).name}: {done.stderr.strip()[-300:]}")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-1000:]}"
