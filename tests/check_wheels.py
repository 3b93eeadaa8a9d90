"""Ask the package index whether each hard dependency has a wheel for every supported Python and machine.

Run by `make check-wheels`; not part of the tests, because it needs the network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC = range(17, 37)  # of the oldest manylinux to that of Debian 12 and Raspberry Pi OS bookworm
ROOT = Path(__file__).resolve().parents[1]


def requirements() -> list[str]:
    """Return the hard dependencies and what `make demo` adds, as pip reads them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    added = [r for name in ("opencv", "demo") for r in extras[name] if not r.startswith("edge-agent")]
    return [*project["dependencies"], *added]


def platforms(machine: str) -> list[str]:
    """Return pip's options for every manylinux tag that a Debian 12 of `machine` can install."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    return [option for tag in tags for option in ("--platform", tag)]


def has_wheels(python: str, machine: str, wanted: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Resolve `wanted` and all they pull for one platform, from wheels alone."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", folder, "--report", "-"]
    command += ["--python-version", python, "--implementation", "cp", *platforms(machine), *wanted]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    """Print one line for each platform; return 1 if any lacks a wheel."""
    wanted, failed = requirements(), 0
    for python in PYTHONS:
        for machine in MACHINES:
            with tempfile.TemporaryDirectory() as folder:
                result = has_wheels(python, machine, wanted, folder)
            failed += result.returncode != 0
            print(f"Python {python} {machine}:", "ok" if result.returncode == 0 else result.stderr.strip())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
