"""Trees of files as real boards have them: /proc, /sys, /etc and dpkg's status, one entry a board.

Device-tree entries are those of the kernels of Raspberry Pi and NVIDIA; CPU features, release lines, package
versions and names of sensors are as owners of such boards have published them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

A53 = ("0x0", "0xd03", "4", "38.40", "fp asimd evtstrm crc32 cpuid")
A72 = ("0x0", "0xd08", "3", "108.00", "fp asimd evtstrm crc32 cpuid")
_V8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
A76 = ("0x4", "0xd0b", "1", "108.00", _V8_2)
A78AE = ("0x0", "0xd42", "1", "62.50", f"{_V8_2} uscat ilrcpc flagm paca pacg")
V3AE = (
    "0x0", "0xd83", "1", "2000.00",
    f"{_V8_2} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2"
    " sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 dgh bti",
)  # fmt: skip

BOOKWORM = (
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
)
TRIXIE = BOOKWORM.replace("bookworm", "trixie").replace("12", "13")
RASPBIAN = BOOKWORM.replace("Debian", "Raspbian").replace("ID=debian", "ID=raspbian\nID_LIKE=debian")
JAMMY = (
    'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\nID=ubuntu\n'
)
NOBLE = JAMMY.replace("22.04.5", "24.04.3").replace("22.04", "24.04").replace("jammy", "noble")
FOCAL = JAMMY.replace("22.04.5", "20.04.6").replace("22.04", "20.04").replace("jammy", "focal")


def jetson_packages(l4t: str, jetpack: str, library: str, tensorrt: str) -> dict[str, str]:
    """Return the packages that JetPack installs, as far as they matter here."""
    return {
        "nvidia-l4t-core": l4t,
        "nvidia-jetpack": jetpack,
        library: tensorrt,
        "libnvinfer-bin": tensorrt,
        "python3-libnvinfer": tensorrt,
        "tensorrt": tensorrt,
    }


def release_line(major: int, revision: str) -> str:
    """Return what /etc/nv_tegra_release says."""
    return (
        f"# R{major} (release), REVISION: {revision}, GCID: 38968081, BOARD: generic, EABI: aarch64, "
        "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
        "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"
    )


@dataclass(frozen=True)
class Tree:
    """The files of one device. `core` is variant, part, revision, BogoMIPS and features of each CPU."""

    compatible: tuple[str, ...] | None
    model: str | None
    core: tuple[str, str, str, str, str] | None
    cpus: int = 4
    memory_kb: int = 0
    os_release: str = BOOKWORM
    arch: str | None = "aarch64"
    kernel: str = "6.12.47+rpt-rpi-v8"
    bits: int = 64
    nv_tegra_release: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    thermal: dict[str, str] = field(default_factory=lambda: {"cpu-thermal": "48199"})
    hwmon: tuple[dict[str, str], ...] = (
        {"name": "cpu_thermal"},
        {"name": "rpi_volt", "in0_lcrit_alarm": "0"},
    )
    devfreq: dict[str, tuple[str, str]] = field(default_factory=dict)
    cpuinfo: str | None = None
    hidden: bool = False

    def build(self, root: Path) -> Path:
        """Write the files below `root` and return it."""
        for name, content in self.files().items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    def files(self) -> dict[str, str | bytes]:
        """Return every file by its path below the root."""
        number = {"x86_64": 62, "riscv64": 243}.get(self.arch or "", 183 if self.bits == 64 else 40)
        elf = b"\x7fELF" + bytes([self.bits // 32]) + b"\x01\x01" + bytes(11) + bytes([number, 0])
        files: dict[str, str | bytes] = {
            "etc/os-release": self.os_release,
            "var/lib/dpkg/status": self._status(),
            "usr/bin/env": elf,
            "sys/devices/system/cpu/online": f"0-{self.cpus - 1}\n",
        }
        if not self.hidden:
            files["proc/cpuinfo"] = self.cpuinfo or self._cpuinfo()
            files["proc/meminfo"] = f"MemTotal:       {self.memory_kb:8d} kB\nMemFree:         1234567 kB\n"
            files["proc/sys/kernel/osrelease"] = f"{self.kernel}\n"
        if self.arch and not self.hidden:
            files["proc/sys/kernel/arch"] = f"{self.arch}\n"
        if self.compatible is not None:
            nodes = "sys/firmware/devicetree/base" if self.hidden else "proc/device-tree"
            files[f"{nodes}/compatible"] = "".join(f"{entry}\0" for entry in self.compatible)
            files[f"{nodes}/model"] = f"{self.model}\0"
        if self.nv_tegra_release is not None:
            files["etc/nv_tegra_release"] = self.nv_tegra_release
        return {**files, **self._sensors()}

    def _sensors(self) -> dict[str, str]:
        files = {}
        for number, (name, millidegrees) in enumerate(self.thermal.items()):
            files[f"sys/class/thermal/thermal_zone{number}/type"] = f"{name}\n"
            files[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{millidegrees}\n"
        for number, chip in enumerate(self.hwmon):
            files.update(
                {f"sys/class/hwmon/hwmon{number}/{key}": f"{value}\n" for key, value in chip.items()}
            )
        for name, (now_hz, max_hz) in self.devfreq.items():
            files[f"sys/class/devfreq/{name}/cur_freq"] = f"{now_hz}\n"
            files[f"sys/class/devfreq/{name}/max_freq"] = f"{max_hz}\n"
        return files

    def _cpuinfo(self) -> str:
        if self.core is None:
            return ""
        variant, part, revision, bogomips, features = self.core
        text = "".join(
            f"processor\t: {number}\nBogoMIPS\t: {bogomips}\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
            for number in range(self.cpus)
        )
        pi = "raspberrypi" in str(self.compatible)
        return text + (
            f"Revision\t: c04170\nSerial\t\t: 0000000000000000\nModel\t\t: {self.model}\n" if pi else ""
        )

    def _status(self) -> str:
        fixed = {"base-files": "12.4+deb12u11", "tensorrt-tools-of-another": "1.0"}
        return "".join(
            f"Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: misc\n"
            f"Architecture: arm64\nVersion: {version}\nDescription: {name}\n more of it\n .\n last line\n\n"
            for name, version in {**fixed, **self.packages}.items()
        )


_PI_5 = Tree(
    ("raspberrypi,5-model-b", "brcm,bcm2712"), "Raspberry Pi 5 Model B Rev 1.0", A76, memory_kb=8256032,
    kernel="6.12.47+rpt-rpi-2712",
    hwmon=({"name": "cpu_thermal"}, {"name": "rp1_adc"}, {"name": "pwmfan"}, {"name": "rpi_volt"}),
)  # fmt: skip
_PI_4 = Tree(
    ("raspberrypi,4-model-b", "brcm,bcm2711"), "Raspberry Pi 4 Model B Rev 1.5", A72, memory_kb=3882696
)
_PI_3 = Tree(
    ("raspberrypi,3-model-b-plus", "brcm,bcm2837"),
    "Raspberry Pi 3 Model B Plus Rev 1.3",
    A53,
    memory_kb=930368,
)
_INA3221 = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5072", "curr1_input": "1024"}
_ORIN_NANO = Tree(
    ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    A78AE,
    cpus=6,
    memory_kb=7802996,
    os_release=JAMMY,
    arch=None,  # proc/sys/kernel/arch came with Linux 6.1
    kernel="5.15.148-tegra",
    nv_tegra_release=release_line(36, "4.3"),
    packages=jetson_packages("36.4.3-20250107174145", "6.2+b77", "libnvinfer10", "10.3.0.30-1+cuda12.5"),
    thermal={"cpu-thermal": "47062", "gpu-thermal": "46218", "cv0-thermal": "", "tj-thermal": "47062"},
    hwmon=(
        {"name": "nvme"},
        {"name": "pwmfan"},
        {
            **_INA3221,
            "in2_label": "VDD_CPU_GPU_CV", "in2_input": "5064", "curr2_input": "96",
            "in3_label": "VDD_SOC", "in3_input": "5064", "curr3_input": "288",
        },
    ),
    devfreq={"17000000.gpu": ("306000000", "1020000000"), "15340000.vic": ("115200000", "729600000")},
)  # fmt: skip

TREES = {
    "pi-zero-2-w": replace(
        _PI_3,
        compatible=("raspberrypi,model-zero-2-w", "brcm,bcm2837"),
        model="Raspberry Pi Zero 2 W Rev 1.0",
        memory_kb=426436,
    ),
    "pi-3-b-plus": _PI_3,
    "pi-4": _PI_4,
    "pi-cm4": replace(
        _PI_4,
        compatible=("raspberrypi,4-compute-module", "brcm,bcm2711"),
        model="Raspberry Pi Compute Module 4 Rev 1.1",
    ),
    "pi-400": replace(
        _PI_4, compatible=("raspberrypi,400", "brcm,bcm2711"), model="Raspberry Pi 400 Rev 1.1"
    ),
    "pi-5": _PI_5,
    "pi-500": replace(
        _PI_5,
        compatible=("raspberrypi,500", "brcm,bcm2712"),
        model="Raspberry Pi 500 Rev 1.0",
        os_release=TRIXIE,
    ),
    "pi-cm5": replace(
        _PI_5,
        compatible=("raspberrypi,5-compute-module", "brcm,bcm2712"),
        model="Raspberry Pi Compute Module 5 Rev 1.0",
    ),
    "pi-5-ubuntu": replace(_PI_5, os_release=NOBLE),
    "pi-unknown": replace(
        _PI_5, compatible=("raspberrypi,6-model-b", "brcm,bcm2712"), model="Raspberry Pi 6 Model B"
    ),
    "pi-4-bullseye": replace(_PI_4, os_release=BOOKWORM.replace("bookworm", "bullseye").replace("12", "11")),
    "pi-4-32-bit": replace(_PI_4, os_release=RASPBIAN, bits=32),
    "pi-4-hidden": replace(_PI_4, hidden=True),
    "orin-nano": _ORIN_NANO,
    "orin-nx": replace(
        _ORIN_NANO,
        compatible=("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
        model="NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        cpus=8,
        memory_kb=15981048,
        nv_tegra_release=release_line(36, "5.0"),
        packages=jetson_packages(
            "36.5.0-20260115194252", "6.2.2+b24", "libnvinfer10", "10.3.0.30-1+cuda12.5"
        ),
    ),
    "agx-orin": replace(
        _ORIN_NANO,
        compatible=("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
        model="NVIDIA Jetson AGX Orin Developer Kit",
        cpus=12,
        memory_kb=64341612,
        nv_tegra_release=release_line(36, "4.0"),
        packages=jetson_packages("36.4.0-20240912212859", "6.1+b123", "libnvinfer10", "10.3.0.30-1+cuda12.5"),
    ),
    "agx-orin-jetpack-5": replace(
        _ORIN_NANO,
        compatible=("nvidia,p3737-0000+p3701-0000", "nvidia,tegra234", "nvidia,tegra23x"),
        model="Jetson AGX Orin Developer Kit",
        cpus=12,
        memory_kb=31357084,
        os_release=FOCAL,
        kernel="5.10.120-tegra",
        nv_tegra_release=release_line(35, "4.1"),
        packages=jetson_packages("35.4.1-20230801124926", "5.1.2-b104", "libnvinfer8", "8.5.2-1+cuda11.4"),
        devfreq={"17000000.ga10b": ("306000000", "1300500000")},
    ),
    "orin-nano-jetpack-6-0": replace(
        _ORIN_NANO,
        nv_tegra_release=release_line(36, "3.0"),
        packages=jetson_packages("36.3.0-20240506102626", "6.0+b106", "libnvinfer8", "8.6.2.3-1+cuda12.2"),
    ),
    "orin-nano-bare": replace(
        _ORIN_NANO, nv_tegra_release=None, packages={"nvidia-l4t-core": "36.4.7-20250918154033"}
    ),
    "thor": Tree(
        ("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
        "NVIDIA Jetson AGX Thor Developer Kit",
        V3AE,
        cpus=14,
        memory_kb=128825804,
        os_release=NOBLE,
        kernel="6.8.12-tegra",
        nv_tegra_release=release_line(38, "2.0"),
        packages=jetson_packages("38.2.0-20250821174705", "7.0-b128", "libnvinfer10", "10.13.3.9-1+cuda13.0"),
        thermal={"cpu-thermal": "41000", "tj-thermal": "42500"},
        hwmon=({"name": "ina3221", "in1_label": "VDD_GPU", "in1_input": "12016", "curr1_input": "1000"},),
        devfreq={"gpu-gpc-0": ("315000000", "1575000000")},
    ),
    "jetson-nano": replace(
        _ORIN_NANO,
        compatible=("nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210"),
        model="NVIDIA Jetson Nano Developer Kit",
        core=("0x1", "0xd07", "1", "38.40", "fp asimd evtstrm aes pmull sha1 sha2 crc32"),
        cpus=4,
        memory_kb=4059712,
        nv_tegra_release=release_line(32, "7.1"),
        packages={},
    ),
    "pc": Tree(
        None,
        None,
        None,
        cpus=2,
        memory_kb=16318040,
        arch="x86_64",
        kernel="6.1.0-37-amd64",
        thermal={"x86_pkg_temp": "51000"},
        hwmon=({"name": "coretemp"},),
        cpuinfo="".join(
            f"processor\t: {number}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 158\n"
            "model name\t: Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz\n"
            "flags\t\t: fpu vme de pse tsc msr pae sse sse2 ht syscall nx lm avx f16c fma bmi1 avx2 bmi2\n\n"
            for number in range(2)
        ),
    ),
    "rock-5b": Tree(
        ("radxa,rock-5b", "rockchip,rk3588"),
        "Radxa ROCK 5B",
        A76,
        cpus=8,
        memory_kb=16176964,
        kernel="6.1.84-rk3588",
        hwmon=(),
    ),
    "arm-server": Tree(None, None, A76, cpus=4, memory_kb=8000000, hwmon=(), thermal={}),
    "riscv": Tree(
        ("starfive,visionfive-2-v1.3b", "starfive,jh7110"), "StarFive VisionFive 2", None, arch="riscv64"
    ),
}
