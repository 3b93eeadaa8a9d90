"""`edge-agent system` on the tree of a system that does not run: an SD card in another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.system.plan import BOARD_DROP_IN, CONFIG, SERVICE
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
TOOLS = ("systemd-sysusers", "systemd-tmpfiles", "systemctl", "userdel")


def system(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `edge-agent system`."""
    command = [sys.executable, "-m", "agent", "system", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Return the root of a Raspberry Pi's system: as much of it as an installation looks at."""
    if os.geteuid():
        pytest.skip("installing needs root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    root = tmp_path / "card"
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": "root:x:0:\nvideo:x:44:\n",
        "etc/login.defs": "USERGROUPS_ENAB yes\n",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "proc/sys/kernel/arch": "aarch64\n",
        "usr/lib/systemd/empty": "",
        "var/lib/misc/empty": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def shape(root: Path) -> list[str]:
    """Return what lies below `root`, accounts apart."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    accounts = ("passwd", "group", "shadow", ".pwd.lock")
    return [name for name in names if not any(part in name for part in accounts)]


def test_looking_changes_nothing(card: Path) -> None:
    """--dry-run shows every file in full, the board's drop-in and the accounts."""
    before = shape(card)
    shown = system("install", "--root", str(card), "--dry-run").stdout
    assert shape(card) == before
    assert shown.startswith("board    Raspberry Pi 5\n")
    assert {"+ExecStart=/opt/edge-agent/bin/edge-agent run", "+DeviceAllow=char-dma_heap rw"} <= set(
        shown.splitlines()
    )
    assert "new      user edge-agent\n" in shown
    assert "new      group video\n" not in shown


def test_install_again_and_undo(card: Path) -> None:
    """The second time there is nothing to change; in the end the tree is what it was."""
    before = shape(card)
    done = system("install", "--root", str(card))
    assert f"sudo systemctl --root={card} enable edge-agent" in done.stdout
    assert f"edit {card}/etc/edge-agent/config.toml" in done.stdout
    assert "restart" not in done.stdout
    assert f"/opt/edge-agent/bin/edge-agent is not below {card} yet" in done.stderr
    assert (card / SERVICE).exists()
    assert "char-media" in (card / BOARD_DROP_IN).read_text()
    assert "edge-agent:" in (card / "etc/passwd").read_text()
    config = card / CONFIG
    assert config.stat().st_mode & 0o777 == 0o640
    assert config.stat().st_gid == config.parent.stat().st_gid != 0
    again = system("install", "--root", str(card)).stdout
    assert again == "board    Raspberry Pi 5\nnothing to change\n"

    config.write_text("# mine\n")
    system("uninstall", "--root", str(card))
    assert config.read_text() == "# mine\n"
    assert not (card / SERVICE).exists()
    dry = system("uninstall", "--root", str(card), "--purge", "--dry-run").stdout
    assert dry.splitlines() == [
        "gone     /etc/edge-agent and all in it",
        "gone     /var/lib/edge-agent and all in it",
        "gone     user edge-agent",
    ]
    system("uninstall", "--root", str(card), "--purge")
    left = [name for name in shape(card) if name not in before]
    assert left == ["usr/local", "usr/local/lib"]
    assert "edge-agent" not in (card / "etc/passwd").read_text() + (card / "etc/group").read_text()
    assert system("uninstall", "--root", str(card), "--purge").stdout == "nothing to change\n"


def test_a_release_runs_by_the_link(card: Path) -> None:
    """From versions/NAME the unit names the link `current`; again, with the link there, there is nothing to change."""
    venv = card / "opt/edge-agent/versions/1.0-abc"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=HANGS_S)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "of-this-test.pth").write_text("".join(f"{path}\n" for path in (ROOT, *sys.path) if path))
    (venv / "bin/edge-agent").write_text(f"#!{venv}/bin/python\nfrom agent.cli import main\nmain()\n")
    (venv / "bin/edge-agent").chmod(0o755)

    def install() -> str:
        command = [venv / "bin/edge-agent", "system", "install", "--root", card]
        return subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=True).stdout

    assert "sudo -u edge-agent /opt/edge-agent/current/bin/edge-agent check" in install()
    assert "ExecStart=/opt/edge-agent/current/bin/edge-agent run\n" in (card / SERVICE).read_text()
    (card / "opt/edge-agent/current").symlink_to("versions/1.0-abc")
    assert install().endswith("nothing to change\n")


def test_an_enabled_service_leaves_no_link(card: Path) -> None:
    """What `systemctl enable` has made goes with the unit."""
    system("install", "--root", str(card))
    subprocess.run(["systemctl", f"--root={card}", "enable", "edge-agent"], check=True, capture_output=True)
    link = card / "etc/systemd/system/multi-user.target.wants/edge-agent.service"
    assert link.is_symlink()
    system("uninstall", "--root", str(card))
    assert not link.is_symlink()


def test_a_card_that_moved_to_another_board(card: Path) -> None:
    """The drop-in of the board it was in before goes; what changed by hand is shown and put right."""
    system("install", "--root", str(card))
    shutil.rmtree(card / "proc")
    unit = card / SERVICE
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=0"))
    shown = system("install", "--root", str(card)).stdout.splitlines()
    assert f"gone     /{BOARD_DROP_IN}" in shown
    assert {"-WatchdogSec=0", "+WatchdogSec=30"} <= set(shown)
    assert not (card / BOARD_DROP_IN).parent.exists()


def test_a_read_only_place_is_one_line(card: Path) -> None:
    """Code 73, the path and the reason."""
    (card / "usr/local").write_text("a file where a folder belongs\n")
    done = system("install", "--root", str(card), check=False)
    assert done.returncode == 73
    assert len(done.stderr.splitlines()) == 1
    assert "/usr/local/lib/" in done.stderr


def test_no_such_place() -> None:
    """Code 66."""
    done = system("install", "--root", "/nowhere", "--dry-run", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (66, 1)


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Code 77 for everybody else; looking is free."""
    from click.testing import CliRunner

    from agent.cli.system import install
    from agent.errors import NotPermitted

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    refused = CliRunner().invoke(install, ["--root", str(tmp_path)]).exception
    assert isinstance(refused, NotPermitted)
    assert refused.exit_code == 77
    assert CliRunner().invoke(install, ["--root", str(tmp_path), "--dry-run"]).exit_code == 0


@pytest.mark.parametrize("dry_run", [("--dry-run",), ()])
def test_a_folder_that_is_no_system_is_left_alone(tmp_path: Path, dry_run: tuple[str, ...]) -> None:
    """An empty mount point is told, and nothing is made in it."""
    if not dry_run and os.geteuid():
        pytest.skip("installing needs root")
    done = system("install", "--root", str(tmp_path), *dry_run, check=False)
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr.count("\n") == 1
    assert "systemd" in done.stderr
    assert list(tmp_path.iterdir()) == []
