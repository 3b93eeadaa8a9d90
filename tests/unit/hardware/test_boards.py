"""Every board we know, from a tree of its files to the plan for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.backends.usable import usable_backends
from agent.bundle.manifest import Artifact
from agent.hardware import identify, read_facts, read_sensors
from agent.select import plan
from tests.unit.hardware.boards import TREES

ARTIFACTS = (
    Artifact(file="int8.tflite", format="tflite", precision="int8"),
    Artifact(file="fp32.onnx", format="onnx", precision="fp32"),
)
INT8 = "litert int8.tflite"
# tree: name, SoC, tier, cores, the CPU's INT8 features, SM, JetPack, plan, threads
BOARDS = {
    "pi-zero-2-w": ("Raspberry Pi Zero 2 W", "bcm2837", "supported", 4, "", None, None, INT8, 3),
    "pi-3-b-plus": ("Raspberry Pi 3 B+", "bcm2837", "supported", 4, "", None, None, INT8, 3),
    "pi-4": ("Raspberry Pi 4 B", "bcm2711", "supported", 4, "", None, None, INT8, 3),
    "pi-cm4": ("Raspberry Pi Compute Module 4", "bcm2711", "supported", 4, "", None, None, INT8, 3),
    "pi-400": ("Raspberry Pi 400", "bcm2711", "supported", 4, "", None, None, INT8, 3),
    "pi-5": ("Raspberry Pi 5", "bcm2712", "supported", 4, "asimddp", None, None, INT8, 3),
    "pi-500": ("Raspberry Pi 500", "bcm2712", "supported", 4, "asimddp", None, None, INT8, 3),
    "pi-cm5": ("Raspberry Pi Compute Module 5", "bcm2712", "supported", 4, "asimddp", None, None, INT8, 3),
    "pi-5-ubuntu": ("Raspberry Pi 5", "bcm2712", "untested", 4, "asimddp", None, None, INT8, 3),
    "pi-unknown": (
        "Raspberry Pi (raspberrypi,6-model-b)",
        "bcm2712", "untested", 4, "asimddp", None, None, INT8, 3,
    ),
    "pi-4-bullseye": ("Raspberry Pi 4 B", "bcm2711", "unsupported", 4, "", None, None, INT8, 3),
    "pi-4-32-bit": ("Raspberry Pi 4 B", "bcm2711", "unsupported", 4, "", None, None, None, 3),
    "pi-4-hidden": ("Raspberry Pi 4 B", "bcm2711", "supported", 4, "", None, None, INT8, 3),
    "orin-nano": ("Jetson Orin Nano 8 GB", "tegra234", "supported", 6, "asimddp", "8.7", "6.2", INT8, 5),
    "orin-nx": ("Jetson Orin NX 16 GB", "tegra234", "supported", 8, "asimddp", "8.7", "6.2.2", INT8, 7),
    "agx-orin": ("Jetson AGX Orin", "tegra234", "supported", 12, "asimddp", "8.7", "6.1", INT8, 11),
    "agx-orin-jetpack-5": (
        "Jetson AGX Orin", "tegra234", "unsupported", 12, "asimddp", "8.7", "5.1.2", INT8, 11
    ),
    "orin-nano-jetpack-6-0": (
        "Jetson Orin Nano 8 GB", "tegra234", "unsupported", 6, "asimddp", "8.7", "6.0", INT8, 5
    ),
    "orin-nano-bare": ("Jetson Orin Nano 8 GB", "tegra234", "supported", 6, "asimddp", "8.7", "6.2.1", INT8, 5),
    "thor": ("Jetson Thor", "tegra264", "supported", 14, "asimddp i8mm", "11.0", "7.0", INT8, 13),
    "jetson-nano": ("Jetson Nano", "tegra210", "unsupported", 4, "", "5.3", "4.6", INT8, 3),
    "pc": ("PC", None, "supported", 2, "", None, None, INT8, 1),
    "rock-5b": ("unknown board (radxa,rock-5b)", None, "untested", 8, "asimddp", None, None, INT8, 7),
    "arm-server": ("unknown board (aarch64)", None, "untested", 4, "asimddp", None, None, INT8, 3),
    "riscv": (
        "unknown board (starfive,visionfive-2-v1.3b)", None, "unsupported", 4, "", None, None, None, 3
    ),
}  # fmt: skip


def test_every_tree_is_in_the_table() -> None:
    """No board is left out."""
    assert BOARDS.keys() == TREES.keys()


@pytest.mark.parametrize("tree", BOARDS)
def test_each_board_is_known_by_its_files(tree: str, tmp_path: Path) -> None:
    """Name, SoC, support, cores, INT8 instructions, GPU, JetPack, and what would run with how many threads."""
    board = identify(read_facts(TREES[tree].build(tmp_path)))
    chosen = plan(board, ARTIFACTS, usable_backends(board, None))
    int8 = [feature for feature in board.features or () if feature in {"asimddp", "i8mm", "avx512_vnni"}]
    taken = f"{chosen.backend} {chosen.artifact}" if chosen.backend else None
    assert (
        board.name, board.soc, board.tier, board.cores, " ".join(int8), board.sm, board.jetpack, taken,
        chosen.threads,
    ) == BOARDS[tree]  # fmt: skip


@pytest.mark.parametrize("tree", [name for name in TREES if name.startswith(("pi-", "orin-", "agx", "thor"))])
def test_the_model_string_decides_nothing(tree: str, tmp_path: Path) -> None:
    """With the model string of another board, all but that string is the same."""
    root = TREES[tree].build(tmp_path)
    before = identify(read_facts(root))
    next(root.glob("*/**/model")).write_bytes(b"Raspberry Pi 4 Model B NVIDIA Jetson Orin Nano\0")
    after = identify(read_facts(root))
    assert after.model == "Raspberry Pi 4 Model B NVIDIA Jetson Orin Nano"
    assert (after.kind, after.name, after.soc, after.tier) == (
        before.kind,
        before.name,
        before.soc,
        before.tier,
    )


def test_a_link_out_of_a_copy_is_not_followed(tmp_path: Path) -> None:
    """/proc/device-tree of a copy may still be the absolute link it is on the device: not this machine's tree."""
    other = TREES["pi-5"].build(tmp_path / "this machine") / "proc/device-tree"
    copy = TREES["arm-server"].build(tmp_path / "copy")
    (copy / "proc/device-tree").symlink_to(other)
    assert identify(read_facts(copy)).kind == "unknown"


def test_the_facts_of_a_pi(tmp_path: Path) -> None:
    """A Pi 5: processor, memory, system and kernel."""
    board = identify(read_facts(TREES["pi-5"].build(tmp_path)))
    assert board.cpu == "Cortex-A76"
    assert board.features == ("asimd", "asimdhp", "fphp", "asimddp")
    assert board.memory_bytes == 8256032 * 1024
    assert board.os == "Debian GNU/Linux 12 (bookworm)"
    assert board.kernel == "6.12.47+rpt-rpi-2712"
    assert (board.machine, board.userland_bits) == ("aarch64", 64)
    assert board.problems == ()


def test_the_facts_of_a_jetson(tmp_path: Path) -> None:
    """An Orin Nano: L4T, TensorRT's package, GPU, rails of the INA3221, clocks; a zone that is off has no number."""
    root = TREES["orin-nano"].build(tmp_path)
    board, sensors = identify(read_facts(root)), read_sensors(root)
    assert (board.l4t, board.tensorrt, board.gpu) == ("36.4.3", "10.3.0.30", "Ampere")
    assert board.machine == "aarch64"  # without proc/sys/kernel/arch
    assert [(zone.name, zone.temperature_c) for zone in sensors.thermal] == [
        ("cpu-thermal", 47.062),
        ("gpu-thermal", 46.218),
        ("cv0-thermal", None),
        ("tj-thermal", 47.062),
    ]
    assert [(rail.name, rail.power_w) for rail in sensors.power] == [
        ("VDD_IN", pytest.approx(5.194, abs=0.001)),
        ("VDD_CPU_GPU_CV", pytest.approx(0.486, abs=0.001)),
        ("VDD_SOC", pytest.approx(1.458, abs=0.001)),
    ]
    assert sensors.hwmon == ("nvme", "pwmfan", "ina3221")
    assert [(clock.name, clock.now_hz, clock.max_hz) for clock in sensors.devfreq] == [
        ("15340000.vic", 115200000, 729600000),
        ("17000000.gpu", 306000000, 1020000000),
    ]


@pytest.mark.parametrize(
    ("packages", "version"),
    [
        ({"libnvinfer8": "8.6.2.3-1+cuda12.2", "libnvinfer10": "10.3.0.30-1+cuda12.5"}, "10.3.0.30"),
        ({"tensorrt": "10.3.0.30-1+cuda12.5"}, "10.3.0.30"),
        ({"libnvinfer-bin": "10.3.0.30-1+cuda12.5"}, None),
    ],
)
def test_the_newest_tensorrt_library_counts(
    tmp_path: Path, packages: dict[str, str], version: str | None
) -> None:
    """Leftovers of an older release do not hide it; tools alone are no runtime."""
    root = replace(TREES["orin-nano"], packages=packages).build(tmp_path)
    assert identify(read_facts(root)).tensorrt == version


def test_a_removed_package_is_not_installed(tmp_path: Path) -> None:
    """What dpkg only remembers the configuration of does not count."""
    root = TREES["orin-nano"].build(tmp_path)
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("install ok installed", "deinstall ok config-files"))
    assert identify(read_facts(root)).tensorrt is None


def test_an_old_jetpack_is_told_with_what_is_needed(tmp_path: Path) -> None:
    """JetPack 5.1.2 and 6.0 are refused in words that name both versions; so is a board that gets no newer one."""
    told = {
        tree: identify(read_facts(TREES[tree].build(tmp_path / tree))).tier_reason
        for tree in ("agx-orin-jetpack-5", "orin-nano-jetpack-6-0", "jetson-nano")
    }
    assert told["agx-orin-jetpack-5"] == "JetPack 6.1+ needed, this is 5.1.2 (L4T 35.4.1): flash a newer one"
    assert told["orin-nano-jetpack-6-0"] == "JetPack 6.1+ needed, this is 6.0 (L4T 36.3.0): flash a newer one"
    assert "a Jetson Orin or Thor is needed" in told["jetson-nano"]


def test_a_32_bit_userland_under_a_64_bit_kernel_is_an_error_with_its_fix(tmp_path: Path) -> None:
    """The kernel says aarch64 and the programs are 32-bit: no LiteRT, install the 64-bit OS."""
    board = identify(read_facts(TREES["pi-4-32-bit"].build(tmp_path)))
    litert, tflite_runtime, _ = usable_backends(board, None)
    assert [problem.fix for problem in board.problems] == ["install the 64-bit OS"]
    assert "only the kernel is 64-bit" in board.problems[0].what
    assert (litert.usable, litert.fix) == (False, "install the 64-bit OS")
    assert "armv7l" in litert.reason
    assert "pip install tflite-runtime" in tflite_runtime.fix


def test_hidden_cpuinfo_is_told_as_such(tmp_path: Path) -> None:
    """Under ProcSubset=pid the board and its cores are still known, the features not, and why is said."""
    board = identify(read_facts(TREES["pi-4-hidden"].build(tmp_path)))
    assert (board.name, board.cores, board.features) == ("Raspberry Pi 4 B", 4, None)
    assert "XNNPACK will silently turn itself off" in board.problems[0].what
    assert "no ProcSubset=pid" in board.problems[0].fix


def test_cores_of_two_kinds_share_only_what_all_of_them_have(tmp_path: Path) -> None:
    """On big.LITTLE a feature counts when every core has it; both kinds are named."""
    root = TREES["rock-5b"].build(tmp_path)
    small = (TREES["pi-4"].build(tmp_path / "pi") / "proc/cpuinfo").read_text().partition("Revision\t: c0")[0]
    (root / "proc/cpuinfo").write_text(small + (root / "proc/cpuinfo").read_text())
    board = identify(read_facts(root))
    assert (board.cpu, board.features) == ("Cortex-A72 + Cortex-A76", ("asimd",))


def test_this_machine_is_read_without_a_fault() -> None:
    """The real / gives a board with cores, memory and the bits of this Python."""
    board = identify(read_facts())
    assert board.usable_cpus >= 1
    assert board.userland_bits in {32, 64}
    assert board.machine
