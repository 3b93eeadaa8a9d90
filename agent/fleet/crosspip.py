"""pip for another Python and machine: python -m agent.fleet.crosspip PYTHON MACHINE [pip's arguments].

`pip download --python-version --platform` picks the wheels of the other machine, but judges the markers of
requirements (`tomli; python_version < "3.11"`) by the Python it runs on: https://github.com/pypa/pip/issues/11664.
So pip is told here what to judge them by.
"""

from __future__ import annotations

import sys

from pip._internal.cli.main import main as pip
from pip._vendor.packaging import markers


def environment(python: str, machine: str) -> dict[str, str]:
    """Return what markers see with CPython `python` ("3.11") on Linux on `machine`; PEP 508."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def main() -> int:
    """Run pip."""
    seen = environment(*sys.argv[1:3])
    markers.default_environment = lambda: dict(seen)
    return int(pip(sys.argv[3:]))


if __name__ == "__main__":
    sys.exit(main())
