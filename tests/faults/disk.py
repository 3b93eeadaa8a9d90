"""Disks that fill up, turn read-only or fail, under a storm that goes on; every event must arrive or be in a gap."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.brokers import wait_for
from tests.faults.lab import lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.faults.lab import Lab, Storm
    from tests.faults.oracle import Verdict

_TMPFS_MIB = 12
_CAP_MIB, _OVER_CAP = 4, 15_000  # events of about 700 bytes
_BESIDE_MIB = 6  # write-ahead log, ballast, room for gaps
_REFUSED_S = 180.0
_HOLD_S = 3.0
_BACK_S = 180.0
_DRAIN_S = 300.0


class CannotInject(Exception):
    """This machine has not what the fault needs; the text says what."""


@dataclass(frozen=True)
class DiskResult:
    """What a fault of the disk did. `put` events in all, the slowest of which took `slowest_put_ms`."""

    fault: str
    verdict: Verdict
    put: int
    refused: bool
    drained: bool
    slowest_put_ms: float
    grown_kib: int
    log: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {**vars(self), "verdict": self.verdict.as_dict()}


def full(folder: Path) -> DiskResult:
    """Have another process fill the disk while the broker is away and events come, then free it again."""
    with tmpfs(folder / "disk") as disk, lab(folder, state=disk / "state") as made:

        def inject(storm: Storm) -> None:
            made.broker.terminate()
            filler, seen = disk / "filler", len(storm.said)
            _fill(filler)
            _wait_refused(storm, seen)
            time.sleep(_HOLD_S)
            filler.unlink()

        return _run("full", made, inject, hz=1500)


def read_only(folder: Path) -> DiskResult:
    """Have ext4 find an error and turn itself read-only for good; after a repair the next start delivers."""
    with ext4(folder) as (disk, trigger), lab(folder, state=disk / "state") as made:
        with made.storm(hz=300, drain_s=1) as storm:
            wait_for(storm.committed, _BACK_S, "the first commit")
            rss_kib, seen = storm.rss_kib(), len(storm.said)
            with _standing_still(storm):
                trigger.write_text("1")
            _wait_refused(storm, seen)
            time.sleep(_HOLD_S)
            grown_kib = storm.rss_kib() - rss_kib
            storm.finish(_BACK_S)
        _call("umount", disk)
        _call("mount", "-o", "loop", _repaired(folder / "image"), disk)
        drained = made.drain()
        return _result("read-only", made, storm, drained=drained, grown_kib=grown_kib)


def read_only_start(folder: Path) -> DiskResult:
    """Start on a disk that is read-only: events go on from memory."""
    with tmpfs(folder / "disk") as disk, lab(folder, state=disk / "state") as made:
        made.state.mkdir()
        _call("mount", "-o", "remount,ro", disk)
        return _run("read-only at start", made, lambda _: time.sleep(_HOLD_S), hz=300)


def over_the_cap(folder: Path) -> DiskResult:
    """Have more events than the outbox may hold while the broker is away, a kill -9 on top, then the broker back."""
    with lab(folder) as made:
        made.broker.terminate()
        with made.storm(hz=2000, max_mbytes=_CAP_MIB) as storm:
            wait_for(lambda: storm.put > _OVER_CAP, _REFUSED_S, "events")
            storm.kill()
        used = sum(file.stat().st_size for file in made.state.glob("outbox.db*"))
        assert used < (_CAP_MIB + _BESIDE_MIB) << 20, f"{used} bytes of files"
        assert made.status_holds()
        return _run("over the cap", made, lambda _: None, hz=300)


def failing(folder: Path, *, error: str, calls: str, when: str) -> DiskResult:
    """Have the system `calls` of the outbox's thread fail with `error`, those counted by `when` (strace's words)."""
    if shutil.which("strace") is None:
        raise CannotInject("strace is not installed")
    trace = ["-f", "-D", "-qq", "--seccomp-bpf", "-o", str(folder / "trace"), "-e", f"trace={calls}"]
    strace = ["strace", *trace, "-e", f"inject={calls}:error={error}:when={when}"]
    with lab(folder) as made:
        return _run(f"{error} on {calls}", made, _wait_refused, hz=300, before=strace)


SCENARIOS: dict[str, Callable[[Path], DiskResult]] = {
    "full": full,
    "over_the_cap": over_the_cap,
    "read_only": read_only,
    "read_only_start": read_only_start,
    "eio_fsync": lambda folder: failing(folder, error="EIO", calls="fsync,fdatasync", when="20..24"),
    "erofs_write": lambda folder: failing(folder, error="EROFS", calls="pwrite64", when="200..204"),
    "enospc_write": lambda folder: failing(folder, error="ENOSPC", calls="pwrite64", when="200..204"),
    "eio_write": lambda folder: failing(folder, error="EIO", calls="pwrite64", when="200..204"),
}


def _run(
    fault: str, made: Lab, inject: Callable[[Storm], None], *, hz: float, before: Sequence[str] = ()
) -> DiskResult:
    """Report at `hz`, `inject` once events flow; the broker is up again afterwards, and all is to be delivered."""
    with made.storm(hz=hz, before=before, drain_s=_DRAIN_S) as storm:
        wait_for(lambda: storm.committed() or storm.ended, _BACK_S, "the first commit")
        rss_kib = storm.rss_kib()
        inject(storm)
        seen = len(storm.said)
        wait_for(lambda: len(storm.said) > seen and storm.committed(), _BACK_S, "the disk to take messages")
        if made.broker.process.poll() is not None:
            made.broker.start()
        grown_kib = storm.rss_kib() - rss_kib
        drained = storm.finish(_DRAIN_S + 20)["drained"]
    return _result(fault, made, storm, drained=drained, grown_kib=grown_kib)


def _result(fault: str, made: Lab, storm: Storm, *, drained: bool, grown_kib: int) -> DiskResult:
    said = [line for line in storm.said if "last" in line]
    return DiskResult(
        fault=fault,
        verdict=made.judge(),
        put=sum(said[-1]["last"].values()),
        refused=not all(line["committed"] for line in said),
        drained=drained,
        slowest_put_ms=max(line["slowest_put_ms"] for line in said),
        grown_kib=grown_kib,
        log=tuple(line for line in made.log.read_text().splitlines() if "outbox" in line),
    )


def _wait_refused(storm: Storm, seen: int = 0) -> None:
    """Wait until a line after the first `seen` ones tells that the disk did not take messages in time."""
    refused = lambda: any(line.get("committed") is False for line in storm.said[seen:])  # noqa: E731
    wait_for(lambda: refused() or storm.ended, _REFUSED_S, "the disk to refuse")
    assert not storm.ended, "the storm has ended"


def _fill(filler: Path) -> None:
    """Write until nothing more fits."""
    with filler.open("wb", buffering=0) as file:
        for size_bytes in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size_bytes))


@contextlib.contextmanager
def tmpfs(folder: Path, *, mib: int = _TMPFS_MIB) -> Iterator[Path]:
    """Mount a small file system in memory on `folder`. Raises CannotInject."""
    folder.mkdir()
    _call("mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", folder)
    try:
        yield folder
    finally:
        _call("umount", folder)


@contextlib.contextmanager
def ext4(folder: Path, *, mib: int = 64) -> Iterator[tuple[Path, Path]]:
    """Mount a new ext4 from an image; yield where, and the file that makes it find an error. Raises CannotInject."""
    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(mib << 20)
    _call("mkfs.ext4", "-q", "-F", image)
    _call("mount", "-o", "loop,errors=remount-ro", image, disk)
    try:
        device = disk.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        yield disk, Path(f"/sys/fs/ext4/{name}/trigger_fs_error")
    finally:
        _call("umount", disk)


@contextlib.contextmanager
def _standing_still(storm: Storm) -> Iterator[None]:
    """Stop all threads of `storm` for the block, each behind its system call.

    An fsync that is under way while ext4 gives up its journal may return 0 though its transaction is lost
    (jbd2_complete_transaction does not look how one that is over has ended).
    """
    tasks = Path(f"/proc/{storm.process.pid}/task")
    os.kill(storm.process.pid, signal.SIGSTOP)
    try:
        wait_for(
            lambda: all(
                (task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()
            ),
            _BACK_S,
            "all threads to stop",
        )
        yield
    finally:
        os.kill(storm.process.pid, signal.SIGCONT)


def _repaired(image: Path) -> Path:
    """Return a repaired copy of an ext4.

    A container that came up meanwhile holds copies of all mounts: a mount of `image` itself would then be of the file
    system that is still in memory, with its error.
    """
    copy = image.with_name("repaired")
    shutil.copyfile(image, copy)
    subprocess.run(["e2fsck", "-fp", copy], capture_output=True, check=False)
    return copy


def _call(*command: object) -> None:
    """Run `command`. Raises CannotInject with its last words."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    except OSError as fault:
        raise CannotInject(f"{command[0]}: {errno.errorcode.get(fault.errno or 0, fault)}") from fault
    if done.returncode:
        raise CannotInject(f"{command[0]}: {done.stderr.strip()[-200:] or done.returncode}")
