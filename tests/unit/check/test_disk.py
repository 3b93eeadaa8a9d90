"""File systems by mountinfo, the lock of a running agent by /proc/locks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.check import disk
from agent.check.lock import holder, running_agent
from agent.check.mounts import Mount, mount_of, read_mountinfo

MOUNTINFO = """\
22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
25 22 0:23 / /var/log rw - tmpfs tmpfs rw,size=50m
26 22 0:24 / /mnt/my\\040disk rw,relatime shared:3 master:4 - nfs4 nas:/x rw
27 22 0:25 / /var rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/home/pi", "/", "ext4"),
        ("/var/log/agent", "/var/log", "tmpfs"),
        ("/var/lib/edge-agent", "/var", "overlay"),
        ("/mnt/my disk/state", "/mnt/my disk", "nfs4"),
        ("/variety", "/", "ext4"),
    ],
)
def test_a_path_lies_on_its_nearest_mount(path: str, point: str, kind: str) -> None:
    """The longest mount point that is above it, with its escaped characters read."""
    assert mount_of(Path(path), MOUNTINFO) == Mount(point, kind)


@given(st.text())
def test_no_mountinfo_breaks_the_check(text: str) -> None:
    """Whatever the file holds, the answer is a mount or none."""
    mount_of(Path("/var/lib"), text)


def test_a_mount_point_may_be_in_any_bytes(tmp_path: Path) -> None:
    """Not UTF-8, and shown without what can't be printed; lines end at line ends alone."""
    file = tmp_path / "mountinfo"
    file.write_bytes(
        b"22 1 179:2 / / rw - ext4 a rw\n23 22 0:9 / /mnt/caf\xe9\\043\x85x rw - tmpfs a rw\n24 2 0:9 / /q rw -  "
    )
    mount = mount_of(Path(os.fsdecode(b"/mnt/caf\xe9#\x85x/state")), read_mountinfo(file))
    assert mount == (os.fsdecode(b"/mnt/caf\xe9#\x85x"), "tmpfs")
    assert disk.lasting(mount)[0].seen.isprintable()


def test_a_hidden_mountinfo_leaves_the_kind_unknown(tmp_path: Path) -> None:
    """As with hidepid or another /proc."""
    assert read_mountinfo(tmp_path / "none") == ""
    assert mount_of(tmp_path, "") == Mount("", "")


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("ext4", []),
        ("tmpfs", ["warning"]),
        ("overlay", ["warning"]),
        ("nfs4", ["warning"]),
        ("vfat", ["warning"]),
    ],
)
def test_file_systems_that_forget_or_break_are_told(kind: str, states: list[str]) -> None:
    """Memory, containers' layers, network shares, and those without a journal."""
    rows = disk.lasting(Mount("/x", kind))
    assert [row.state for row in rows] == states
    assert all(row.fix for row in rows)


def test_a_lock_is_seen_while_it_is_held_and_never_taken(tmp_path: Path) -> None:
    """By the kernel's table of locks: this process holds it, then nobody; it could be taken all the time."""
    path = tmp_path / "outbox.db.lock"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locks = Path("/proc/locks").read_text(encoding="ascii")
        if str(path.stat().st_ino) not in locks:
            pytest.skip("this kernel hides /proc/locks")
        assert running_agent(tmp_path, locks) == os.getpid()
    assert running_agent(tmp_path, Path("/proc/locks").read_text(encoding="ascii")) is None


def test_another_device_number_needs_the_process_that_wrote_the_file(tmp_path: Path) -> None:
    """On btrfs and overlay the table shows another device: inode and process must agree."""
    path = tmp_path / "outbox.db.lock"
    path.write_text("4711")
    line = "1: FLOCK  ADVISORY  WRITE {} 00:1f:{} 0 EOF\n"
    assert holder(path, line.format(4711, path.stat().st_ino)) == 4711
    assert holder(path, line.format(4712, path.stat().st_ino)) is None
    assert holder(path, line.format(4711, path.stat().st_ino + 1)) is None
    assert holder(tmp_path / "none", line.format(4711, 1)) is None


def test_a_good_directory_is_left_as_it_was(tmp_path: Path) -> None:
    """Facts in one row, and no file of the check remains."""
    rows = disk.check(tmp_path, max_bytes=1 << 20)
    assert rows[0].state == "ok"
    assert "free, fsync" in rows[0].seen
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_the_right_to_write(tmp_path: Path) -> None:
    """Permission denied names the user and what to do."""
    row = disk._unwritable(tmp_path, PermissionError(13, "Permission denied"))
    assert row.state == "fault"
    assert "chown" in row.fix


def test_a_sink_is_a_file_that_can_be_written(tmp_path: Path) -> None:
    """Standard output, a file there or yet to be; not a directory, nor a file in one that is missing."""
    (tmp_path / "there").touch()
    good = ["-", str(tmp_path / "there"), str(tmp_path / "new")]
    assert {disk.sink(file).state for file in good} == {"ok"}
    assert {disk.sink(file).state for file in (str(tmp_path), str(tmp_path / "no" / "x"))} == {"fault"}


def test_slow_disks_and_lack_of_room_are_told() -> None:
    """A flush of 300 ms, room for less than an outage, and no inode."""
    assert disk._speed(300.0)[0].state == "warning"
    assert disk._speed(30.0) == []
    assert disk._room(200 << 20, 10, 100, 64 << 20) == []
    assert disk._room(60 << 20, 10, 100, 64 << 20)[0].state == "warning"
    assert disk._room(200 << 20, 0, 100, 64 << 20)[0].state == "fault"
    assert disk._room(200 << 20, 0, 0, 64 << 20) == [], "btrfs has no inodes to count"


def test_a_state_of_a_newer_agent_is_a_fault(tmp_path: Path) -> None:
    """With the exit code that `run` would end with; one of this version is none."""
    (tmp_path / "schema").write_text("1\n")
    assert not [row for row in disk.check(tmp_path, max_bytes=1 << 20) if row.state == "fault"]
    (tmp_path / "schema").write_text("2\n9.0\n")
    (row,) = (row for row in disk.check(tmp_path, max_bytes=1 << 20) if row.state == "fault")
    assert (row.what, row.code) == ("state directory", 78)
    assert "9.0 or newer" in row.fix
