"""The boards we know: device-tree entries, SoCs, CPU parts, releases of Jetson Linux.

Sources: Linux' bindings arm/bcm/bcm2835.yaml and arm/tegra.yaml, the device trees of Raspberry Pi's and
NVIDIA's kernels, NVIDIA's JetPack archive and CUDA's table of compute capabilities, Arm's MIDR part numbers.
"""

from __future__ import annotations

from typing import NamedTuple

Release = tuple[int, int, int]


class Soc(NamedTuple):
    """A chip: `sm` is the GPU's compute capability, `needs` the first JetPack and L4T that we support on it."""

    name: str
    gpu: str | None = None
    sm: str | None = None
    needs: tuple[str, Release] | None = None


PI_BOARDS = {
    "raspberrypi,5-model-b": ("Raspberry Pi 5", "bcm2712"),
    "raspberrypi,500": ("Raspberry Pi 500", "bcm2712"),
    "raspberrypi,5-compute-module": ("Raspberry Pi Compute Module 5", "bcm2712"),
    "raspberrypi,4-model-b": ("Raspberry Pi 4 B", "bcm2711"),
    "raspberrypi,400": ("Raspberry Pi 400", "bcm2711"),
    "raspberrypi,4-compute-module": ("Raspberry Pi Compute Module 4", "bcm2711"),
    "raspberrypi,4-compute-module-s": ("Raspberry Pi Compute Module 4S", "bcm2711"),
    "raspberrypi,3-model-b-plus": ("Raspberry Pi 3 B+", "bcm2837"),
    "raspberrypi,3-model-b": ("Raspberry Pi 3 B", "bcm2837"),
    "raspberrypi,3-model-a-plus": ("Raspberry Pi 3 A+", "bcm2837"),
    "raspberrypi,3-compute-module": ("Raspberry Pi Compute Module 3", "bcm2837"),
    "raspberrypi,model-zero-2-w": ("Raspberry Pi Zero 2 W", "bcm2837"),
    "raspberrypi,2-model-b": ("Raspberry Pi 2 B", "bcm2836"),
    "raspberrypi,model-zero-w": ("Raspberry Pi Zero W", "bcm2835"),
}
"""Entry of `compatible`: name, SoC."""

PI_SOCS = {
    "brcm,bcm2712": Soc("bcm2712", "VideoCore VII"),
    "brcm,bcm2712d0": Soc("bcm2712", "VideoCore VII"),
    "brcm,bcm2711": Soc("bcm2711", "VideoCore VI"),
    "brcm,bcm2837": Soc("bcm2837", "VideoCore IV"),
    "brcm,bcm2836": Soc("bcm2836", "VideoCore IV"),
    "brcm,bcm2835": Soc("bcm2835", "VideoCore IV"),
}

JETSON_MODULES = {
    "p3767-0000": "Jetson Orin NX 16 GB",
    "p3767-0001": "Jetson Orin NX 8 GB",
    "p3767-0003": "Jetson Orin Nano 8 GB",
    "p3767-0004": "Jetson Orin Nano 4 GB",
    "p3767-0005": "Jetson Orin Nano 8 GB",
    "p3767": "Jetson Orin Nano or NX",
    "p3701": "Jetson AGX Orin",
    "p3834": "Jetson Thor",
    "p3668": "Jetson Xavier NX",
    "p2888": "Jetson AGX Xavier",
    "p3448": "Jetson Nano",
    "p3310": "Jetson TX2",
}
"""Module, or module and its SKU: the longest that an entry of `compatible` has is the board's."""

JETSON_SOCS = {
    "nvidia,tegra264": Soc("tegra264", "Blackwell", "11.0", ("7.0", (38, 0, 0))),
    "nvidia,tegra234": Soc("tegra234", "Ampere", "8.7", ("6.1", (36, 4, 0))),
    "nvidia,tegra194": Soc("tegra194", "Volta", "7.2"),
    "nvidia,tegra186": Soc("tegra186", "Pascal", "6.2"),
    "nvidia,tegra210": Soc("tegra210", "Maxwell", "5.3"),
}

JETPACKS: tuple[tuple[Release, str], ...] = (
    ((32, 7, 0), "4.6"),
    ((35, 1, 0), "5.0.2"),
    ((35, 2, 0), "5.1"),
    ((35, 3, 0), "5.1.1"),
    ((35, 4, 0), "5.1.2"),
    ((35, 5, 0), "5.1.3"),
    ((35, 6, 0), "5.1.4"),
    ((36, 2, 0), "6.0"),
    ((36, 4, 0), "6.1"),
    ((36, 4, 3), "6.2"),
    ((36, 4, 4), "6.2.1"),
    ((36, 5, 0), "6.2.2"),
    ((38, 0, 0), "7.0"),
    ((38, 4, 0), "7.1"),
    ((39, 0, 0), "7.2"),
)
"""The first L4T release of each JetPack, ascending."""

CPU_PARTS = {
    "0x41:0xb76": "ARM1176",
    "0x41:0xc07": "Cortex-A7",
    "0x41:0xd03": "Cortex-A53",
    "0x41:0xd05": "Cortex-A55",
    "0x41:0xd07": "Cortex-A57",
    "0x41:0xd08": "Cortex-A72",
    "0x41:0xd09": "Cortex-A73",
    "0x41:0xd0b": "Cortex-A76",
    "0x41:0xd0c": "Neoverse-N1",
    "0x41:0xd42": "Cortex-A78AE",
    "0x41:0xd83": "Neoverse-V3AE",
    "0x4e:0x004": "Carmel",
}
"""Implementer and part of /proc/cpuinfo."""

CPU_FEATURES = (
    "asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "sve2",
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
)  # fmt: skip
"""What decides which kernels XNNPACK takes; `asimddp`, `i8mm` and the VNNIs are those for INT8."""


def jetpack_of(release: Release) -> str | None:
    """Return the JetPack that came with an L4T release; None for a series that is not in the table."""
    same = [jetpack for first, jetpack in JETPACKS if first[0] == release[0] and first <= release]
    return same[-1] if same else None
