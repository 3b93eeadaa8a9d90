"""The system that the hosts boot: Debian 12, made once with mmdebstrap, and the agent as wheels.

It is kept in EDGE_AGENT_TEST_HOSTS, without it in the user's cache (700 MB; two minutes).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from agent.starter import sample_clip
from tests.hosts.possible import why_not

ROOT = Path(__file__).parents[2]
DEBIAN, PYTHON = "bookworm", "3.11"
_PACKAGES = (
    "systemd,systemd-sysv,dbus,passwd,python3-venv,python3-apt,"
    "openssh-server,sudo,iproute2,procps,ca-certificates"
)
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
USER = "pi"
_FILES = {
    "sbin/lab-init": (_INIT, 0o755),
    "etc/machine-id": ("", 0o444),
    "etc/apt/sources.list": ("", 0o644),
    f"etc/sudoers.d/{USER}": (f"{USER} ALL=(ALL) NOPASSWD:ALL\n", 0o440),
    "etc/ssh/sshd_config.d/lab.conf": ("UseDNS no\nPasswordAuthentication no\nMaxStartups 50\n", 0o644),
}


@dataclass(frozen=True)
class Base:
    """`system`: the root that hosts boot a copy of; `agent`: a layer over it, /opt/edge-agent with what it needs.

    `lab` is what they see read-only as /srv/lab.
    """

    system: Path
    agent: Path
    lab: Path


def kept() -> Path:
    """Return the folder that keeps the base from one test run to the next."""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent" / "tests" / "hosts"
    )
    return Path(os.environ.get("EDGE_AGENT_TEST_HOSTS") or cache)


def skip_unless_possible() -> None:
    """Skip the test where no host can be booted, and say what is missing."""
    if os.geteuid():
        pytest.skip("booting hosts needs root")
    tools = ("systemd-nspawn", "mmdebstrap", "ip", "nsenter", "ssh", "mosquitto", "mosquitto_sub")
    search = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [tool for tool in tools if shutil.which(tool, path=search) is None]:
        pytest.skip(
            f"not installed: {', '.join(missing)} (apt install systemd-container mmdebstrap iproute2 openssh-client"
            " mosquitto mosquitto-clients)"
        )
    if refused := why_not():
        pytest.skip(f"hosts can't be booted here: {refused}")


def make_base(folder: Path) -> Base:
    """Return the base in `folder`, with what is already there used again and the agent's wheel made anew.

    Skips the test when neither `folder` nor the network has it.
    """
    lab = folder / "lab"
    (lab / "wheels").mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_wheels(folder, lab / "wheels")
        if not (clip := lab / "long.mp4").exists():
            make_long_clip(clip, times=60)
        made = folder / f"{DEBIAN}-{_recipe()}"
        if not made.exists():
            _make_layers(made, lab)
    return Base(made / "system", made / "agent", lab)


def _recipe() -> str:
    """Return a name for what the system is made of: a base kept from an older recipe is not used."""
    text = repr((_PACKAGES, _FILES, _IDLE_UNITS, USER, _dependencies()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _make_wheels(folder: Path, wheels: Path) -> None:
    """Make the wheel of this tree, and get those it needs."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    copy_source(source)
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


def copy_source(folder: Path) -> None:
    """Copy what the agent's wheel is made of from this tree to `folder`."""
    for name in _OF_THE_WHEEL:
        part, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(part, copy, ignore=ignored) if part.is_dir() else shutil.copy(part, copy)


def _dependencies() -> str:
    """Return what pyproject.toml says that the agent needs, as text."""
    text = (ROOT / "pyproject.toml").read_text()
    return text.partition("\ndependencies = [")[2].partition("\n]")[0]


def _make_layers(made: Path, lab: Path) -> None:
    """Make the system, and the layer with the agent's virtual environment."""
    part = made.with_name(f"{made.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    system = part / "system"
    part.mkdir()
    or_skip(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", DEBIAN, str(system)])
    _run(["chroot", str(system), "useradd", "--create-home", "--shell=/bin/bash", USER])
    (system / "etc/resolv.conf").unlink(missing_ok=True)
    (system / "var/log/journal").mkdir(exist_ok=True)
    for name, (text, mode) in _FILES.items():
        (system / name).write_text(text)
        (system / name).chmod(mode)
    for unit in _IDLE_UNITS:
        (system / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _make_environment(system, lab)
    (part / "agent/opt").mkdir(parents=True)
    (system / "opt/edge-agent").rename(part / "agent/opt/edge-agent")
    part.rename(made)


def _make_environment(system: Path, lab: Path) -> None:
    """Make /opt/edge-agent in the system, with all that the agent needs but the agent."""
    pip = ["chroot", str(system), "/opt/edge-agent/bin/pip", "--quiet"]
    _run(["chroot", str(system), "python3", "-m", "venv", "/opt/edge-agent"])
    shutil.copytree(lab / "wheels", system / "wheels")
    _run([*pip, "install", "--no-index", "--find-links=/wheels", "edge-agent"])
    _run([*pip, "uninstall", "--yes", "edge-agent"])
    shutil.rmtree(system / "wheels")


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
