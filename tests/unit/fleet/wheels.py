"""Small wheels made on the spot."""

from __future__ import annotations

import platform
import sys
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    needs: tuple[str, ...] = (),
    head: str = "License-Expression: MIT\n",
    tag: str = "py3-none-any",
    files: dict[str, str] | None = None,
    texts: dict[str, str] | None = None,
) -> Path:
    """Write a wheel with `files` that pip installs, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    project = name.replace("-", "_")
    info = f"{project}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {each}\n" for each in needs)
    content = {
        **(files or {f"{project}.py": f"version = '{version}'\n"}),
        **{f"{info}/licenses/{file}": text for file, text in (texts or {}).items()},
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{head}{required}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in (*content, f"{info}/RECORD"))
    path = folder / f"{project}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


def make_house(folder: Path) -> Path:
    """Write an edge-agent that needs numpy and, on Python 3.10 alone, tomli, with both; return its wheel."""
    here = (f"cp{sys.version_info.major}{sys.version_info.minor}", platform.machine())
    for python, machine in {("cp310", "aarch64"), ("cp311", "aarch64"), ("cp313", "aarch64"), here}:
        for version in ("1.26.4", "2.4.0"):
            tag = f"{python}-{python}-manylinux_2_17_{machine}"
            numpy = {"numpy/__init__.py": f"__version__ = '{version}'\n"}
            make_wheel(folder, "numpy", version, tag=tag, head="License: BSD\n", files=numpy)
    make_wheel(folder, "tomli", "2.0.0", texts={"LICENSE": "the words of tomli"})
    needs = ("numpy>=1.26", "tomli>=2 ; python_version < '3.11'", "amqtt ; extra == 'demo'")
    head = "License-Expression: MIT\nProvides-Extra: demo\n"
    return make_wheel(
        folder, "edge-agent", "9.8.7", needs=needs, head=head, texts={"LICENSE": "the words of the agent"}
    )
