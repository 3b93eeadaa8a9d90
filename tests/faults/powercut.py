"""Power cuts: a virtual machine is stopped at random moments, and its disk copied as it is then.

What the guest had in memory alone is gone in the copy. Every event that it had told to be committed must be there.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.brokers import wait_for
from tests.faults import guest
from tests.faults.outboxfile import read_accounts

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOT_S = 240.0
_BETWEEN_S = (0.3, 3.0)


@dataclass(frozen=True)
class Cut:
    """One power cut: how many events were told to be committed, how many lie on the disk, how many are lost."""

    told: int
    on_disk: int
    lost: int
    accounts_hold: bool


def cut_power(
    folder: Path, *, cuts: int, hz: float = 30.0, work: Path | None = None, seed: int = 1
) -> list[Cut]:
    """Run the storm in the machine and cut its power `cuts` times. Raises guest.CannotRun."""
    dice = random.Random(seed)
    kernel, version = guest.kernel_in(work or folder)
    packed = guest.pack(folder, kernel, version, hz=hz)
    disk, serial = folder / "disk.img", folder / "serial"
    guest.make_disk(disk)
    made: list[Cut] = []
    with guest.running(kernel, version, packed, disk, serial) as machine:
        wait_for(lambda: _told(serial) or machine.poll() is not None, _BOOT_S, "the guest's first commit")
        for number in range(cuts):
            time.sleep(dice.uniform(*_BETWEEN_S))
            copy = folder / f"cut-{number}.img"
            machine.send_signal(signal.SIGSTOP)
            wait_for(lambda: _stopped(machine.pid), 10, "the machine to stand still")
            told = _told(serial)
            shutil.copyfile(disk, copy)
            machine.send_signal(signal.SIGCONT)
            made.append(_examine(copy, told))
            copy.unlink()
    return made


def _stopped(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] in "Tt" for task in tasks)


def _told(serial: Path) -> dict[tuple[str, str], int]:
    """Return the last number of each epoch and lane that the guest told to be committed."""
    last: dict[tuple[str, str], int] = {}
    for line in serial.read_text(errors="replace").splitlines(keepends=True) if serial.exists() else ():
        if not line.endswith("\n"):
            continue
        with contextlib.suppress(json.JSONDecodeError):
            said = json.loads(line)
            if said.get("committed"):
                last |= {tuple(name.split("/")): seq for name, seq in said["last"].items()}
    return last


def _examine(copy: Path, told: dict[tuple[str, str], int]) -> Cut:
    """Have the kernel replay the journal of the copied disk, then count."""
    with _mounted(copy) as disk:
        accounts = read_accounts(disk / "agent/outbox.db")
    lost = sum(seq not in accounts[lane].queued for lane, last in told.items() for seq in range(1, last + 1))
    on_disk = sum(len(account.queued) for account in accounts.values())
    return Cut(sum(told.values()), on_disk, lost, all(account.holds for account in accounts.values()))


@contextlib.contextmanager
def _mounted(image: Path) -> Iterator[Path]:
    folder = image.with_suffix(".mounted")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise guest.CannotRun(f"mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
