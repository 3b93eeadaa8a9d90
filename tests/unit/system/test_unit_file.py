"""The unit as it is shipped: what the issue promises, and what must never come into it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agent.hardware import Board
from agent.starter import service_files
from agent.system.devices import Devices, drop_in
from agent.system.plan import DEFAULT_PROGRAM, GROUPS, UNIT, USER
from tests.patience import HANGS_S

MAX_EXPOSURE = 1.6
TEXT = (service_files() / UNIT).read_text()
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
PI = Board(kind="raspberry-pi", name="Raspberry Pi 5", tier="supported", tier_reason="")


def analyze(*arguments: str) -> str:
    """Return what systemd-analyze prints."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (apt install systemd)")
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than 250: it can't judge files")
    return done.stdout + done.stderr


@pytest.mark.parametrize("dropped", ["", drop_in(PI, Devices())], ids=["pc", "pi"])
def test_exposure(tmp_path: Path, dropped: str) -> None:
    """At most 1.6, as `systemd-analyze security` counts."""
    unit = tmp_path / UNIT
    unit.write_text(TEXT)
    if dropped:
        (tmp_path / f"{UNIT}.d").mkdir()
        (tmp_path / f"{UNIT}.d/10-board.conf").write_text(dropped)
    last = analyze("security", "--offline=true", "--no-pager", str(unit)).splitlines()[-1]
    assert float(last.split(": ")[1].split()[0]) <= MAX_EXPOSURE, last


def test_the_manager_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, of the drop-ins neither."""
    unit = tmp_path / UNIT
    unit.write_text(TEXT.replace(DEFAULT_PROGRAM, "/bin/true"))
    (tmp_path / f"{UNIT}.d").mkdir()
    devices = Devices(("/dev/nvmap",), ("/dev/dri/renderD128",), argus=True)
    (tmp_path / f"{UNIT}.d/10-board.conf").write_text(drop_in(PI, devices))
    assert UNIT not in analyze("verify", str(unit))


def test_the_engine_keeps_what_it_needs() -> None:
    """XNNPACK reads /proc/cpuinfo and /sys, engines set priority and affinity, cameras are devices."""
    keys = {line.partition("=")[0] for line in LINES}
    assert not keys & {
        "ProcSubset",
        "PrivateDevices",
        "PrivateNetwork",
        "InaccessiblePaths",
        "TemporaryFileSystem",
    }
    assert not keys & {"RootDirectory", "RootImage", "PrivateUsers"}
    filters = [line for line in LINES if line.startswith("SystemCallFilter=")]
    assert filters == ["SystemCallFilter=@system-service", "SystemCallFilter=~@privileged"]
    assert "SystemCallErrorNumber=EPERM" in LINES


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "WatchdogSec=30",
        "TimeoutAbortSec=5",
        "TimeoutStopSec=20",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "Restart=always",
        "RestartPreventExitStatus=78",
        "SuccessExitStatus=75",
        "StartLimitIntervalSec=0",
        f"User={USER}",
        "StateDirectory=edge-agent",
        "RuntimeDirectory=edge-agent",
        "LimitCORE=0",
        "UMask=0077",
    ],
)
def test_what_the_unit_promises(line: str) -> None:
    """How it starts, ends, is watched and comes back."""
    assert line in LINES


def test_the_user_comes_with_the_groups_of_devices() -> None:
    """Those that the plan tells are those that systemd-sysusers makes."""
    text = (service_files() / "sysusers.d/edge-agent.conf").read_text()
    assert f"u {USER} " in text
    assert all(f"g {group} -\n" in text and f"m {USER} {group}\n" in text for group in GROUPS)
