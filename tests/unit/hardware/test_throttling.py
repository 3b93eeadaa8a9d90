"""What firmware and kernel say of heat and power, from the files of each board and from a Pi's mailbox."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from agent.hardware import ThermalZone, Throttling, read_throttling
from agent.hardware.mailbox import read_throttled
from tests.unit.hardware.boards import TREES

if TYPE_CHECKING:
    from pathlib import Path

THERMAL = "sys/class/thermal"
BITS = "sys/devices/platform/soc/soc:firmware/get_throttled"


def write(root: Path, files: dict[str, str]) -> Path:
    """Write `files` below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_a_pi_is_slowed_from_80_c(tmp_path: Path) -> None:
    """Its kernel has no trip point for what the firmware does."""
    root = TREES["pi-5"].build(tmp_path)
    assert read_throttling(root) == Throttling(zones=(ThermalZone("cpu-thermal", 48.199, 80.0),))
    assert read_throttling(root).nearest == ("cpu-thermal", 48.199, 80.0)


@pytest.mark.parametrize(
    ("bits", "under_voltage", "slowed"),
    [
        ("0", False, ()),
        ("50000", False, ()),  # since boot: over
        ("50005", True, ("throttled",)),
        ("0x2", False, ("frequency capped",)),
        ("e000e", False, ("frequency capped", "throttled")),
        ("80008", False, ()),  # the soft limit of a Pi 3 B+ alone
        ("garbage", False, ()),
    ],
)
def test_the_bits_of_the_firmware(
    tmp_path: Path, bits: str, under_voltage: bool, slowed: tuple[str, ...]
) -> None:
    """What is now counts; what was since boot does not."""
    seen = read_throttling(write(TREES["pi-4"].build(tmp_path), {BITS: bits}))
    assert (seen.under_voltage, seen.slowed) == (under_voltage, slowed)


def test_the_under_voltage_alarm_of_the_kernel(tmp_path: Path) -> None:
    """Hwmon's alarm alone is enough."""
    root = write(TREES["pi-4"].build(tmp_path), {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"})
    assert read_throttling(root).under_voltage


def test_a_jetson_has_trip_points_alerts_and_a_power_mode(tmp_path: Path) -> None:
    """The lowest passive trip is the limit; alerts and caps at work are named, a fan is not."""
    root = write(
        TREES["orin-nano"].build(tmp_path),
        {
            f"{THERMAL}/thermal_zone0/trip_point_0_type": "critical",
            f"{THERMAL}/thermal_zone0/trip_point_0_temp": "104500",
            f"{THERMAL}/thermal_zone0/trip_point_1_type": "passive",
            f"{THERMAL}/thermal_zone0/trip_point_1_temp": "99000",
            f"{THERMAL}/thermal_zone0/trip_point_2_type": "active",
            f"{THERMAL}/thermal_zone0/trip_point_2_temp": "51000",
            f"{THERMAL}/thermal_zone1/trip_point_0_type": "passive",
            f"{THERMAL}/thermal_zone1/trip_point_0_temp": "-274000",
            f"{THERMAL}/cooling_device0/type": "pwm-fan",
            f"{THERMAL}/cooling_device0/cur_state": "3",
            f"{THERMAL}/cooling_device1/type": "gpu-throttle-alert",
            f"{THERMAL}/cooling_device1/cur_state": "1",
            f"{THERMAL}/cooling_device2/type": "cpufreq-cpu0",
            f"{THERMAL}/cooling_device2/cur_state": "0",
            f"{THERMAL}/cooling_device10/type": "devfreq-17000000.gpu",
            f"{THERMAL}/cooling_device10/cur_state": "4",
            "var/lib/nvpmodel/status": "pmode:0001",
            "etc/nvpmodel.conf": "# < POWER_MODEL ID=1 NAME=no >\n< POWER_MODEL ID=0 NAME=15W >\n"
            "CPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n< PM_CONFIG DEFAULT=1 >",
        },
    )
    seen = read_throttling(root)
    assert seen.nearest == ("cpu-thermal", 47.062, 99.0)
    assert [zone.slows_at_c for zone in seen.zones] == [99.0, None, None, None]
    assert seen.slowed == ("devfreq-17000000.gpu", "gpu-throttle-alert")
    assert (seen.power_mode, seen.under_voltage) == ("25W", False)


def test_a_power_mode_without_its_table_is_a_number(tmp_path: Path) -> None:
    """The name is not guessed."""
    root = write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002 fmode:quiet"})
    assert read_throttling(root).power_mode == "mode 2"


@pytest.mark.parametrize("tree", TREES)
def test_every_board_can_be_looked_at(tree: str, tmp_path: Path) -> None:
    """None is slowed as its tree stands, and none but a Pi has a limit that no file tells."""
    seen = read_throttling(TREES[tree].build(tmp_path))
    assert (seen.slowed, seen.under_voltage) == ((), False)
    assert (seen.nearest is not None) == (tree.startswith("pi-") or tree == "riscv")


def test_this_machine_can_be_looked_at() -> None:
    """Whatever it has, it is told without a fault."""
    assert isinstance(read_throttling(), Throttling)


def mailbox(answer: int | OSError, code: int = 0x80000000) -> object:
    """Return an ioctl that is a firmware: it checks the question as the kernel's driver does."""

    def ioctl(handle: int, request: int, message: bytearray, mutate: bool) -> int:
        assert request & 0xFFFF == 0x6400
        assert (request >> 16) & 0x3FFF == struct.calcsize("P")
        assert mutate
        assert struct.unpack("<7I", message) == (28, 0, 0x00030046, 4, 4, 0, 0)
        if isinstance(answer, OSError):
            raise answer
        message[:] = struct.pack("<7I", 28, code, 0x00030046, 4, 0x80000004, answer, 0)
        return 0

    return ioctl


def test_the_mailbox_is_asked_and_understood(tmp_path: Path) -> None:
    """The question has the right form and clears no bit; a refusal, an error and no mailbox are no answer."""
    assert read_throttled(tmp_path, mailbox(0x50005)) is None
    write(tmp_path, {"dev/vcio": ""})
    assert read_throttled(tmp_path, mailbox(0x50005)) == 0x50005
    assert read_throttled(tmp_path, mailbox(0x50005, code=0x80000001)) is None
    assert read_throttled(tmp_path, mailbox(OSError(errno.ETIMEDOUT, "no answer"))) is None
    assert read_throttled(tmp_path) is None  # a file that is no device
