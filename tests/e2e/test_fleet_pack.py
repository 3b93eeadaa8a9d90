"""`edge-agent fleet pack` from a folder of small wheels, and a release installed as a device does it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.fleet.closure import SOURCE, build_own
from agent.fleet.release import Release, read_release
from agent.fleet.wheel import read_wheel
from tests.hosts.base import or_skip
from tests.patience import HANGS_S
from tests.unit.fleet.wheels import make_house, make_wheel

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
pytestmark = pytest.mark.timeout(4 * HANGS_S)


def fleet(
    *arguments: object, check: bool = True, epoch: str = "1700000000"
) -> subprocess.CompletedProcess[str]:
    """Run `edge-agent fleet`."""
    command = [sys.executable, "-m", "agent", "fleet", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def packed(own: Path, releases: Path, *more: object) -> tuple[Path, Release]:
    """Pack the wheel `own` from the wheels beside it; return the release."""
    said = json.loads(fleet("pack", own, "--offline", own.parent, "--out", releases, *more, "--json").stdout)
    return Path(said["path"]), read_release(Path(said["path"]))


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below `folder`."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of a small edge-agent, among the wheels that it needs."""
    return make_house(tmp_path_factory.mktemp("house"))


def test_release_for_two_pythons(house: Path, tmp_path: Path) -> None:
    """Markers are judged for the Python that is packed for; NumPy 1 where the system's OpenCV is built for it."""
    place, release = packed(house, tmp_path, *(o for p in ("3.10", "3.11", "3.13") for o in ("--python", p)))
    assert place == tmp_path / release.name
    assert (release.version, release.pythons, release.platforms) == (
        "9.8.7",
        ("3.10", "3.11", "3.13"),
        ("aarch64",),
    )
    pins = [line.partition(" \\")[0] for line in (place / "requirements.txt").read_text().splitlines()]
    assert [pin for pin in pins if "==" in pin.partition(" ")[0]] == [
        "edge-agent==9.8.7",
        'numpy==1.26.4 ; python_version == "3.10" or python_version == "3.11"',
        'numpy==2.4.0 ; python_version == "3.13"',
        'tomli==2.0.0 ; python_version == "3.10"',
    ]
    assert "the words of tomli" in (place / "LICENSES.txt").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == [release.name]


def test_the_same_input_gives_the_same_bytes(house: Path, tmp_path: Path) -> None:
    """Made twice in two places; and a release that is there already is kept."""
    first, _ = packed(house, tmp_path / "a")
    second, _ = packed(house, tmp_path / "b")
    assert files(first) == files(second)
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    assert packed(house, tmp_path / "a")[0] == first
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("requirements.txt", lambda text: text.replace(b"sha256:", b"sha256:0", 1)),
        ("wheels/tomli-2.0.0-py3-none-any.whl", lambda wheel: wheel[:-40] + b"\1" + wheel[-39:]),
        ("wheels/tomli-2.0.0-py3-none-any.whl", lambda _: None),
        ("sbom.cdx.json", lambda _: None),
        ("release.toml", lambda text: text.replace(b'hash12 = "', b'hash12 = "0')),
        ("release.toml", lambda text: text[:20]),
    ],
)
def test_verify_finds(house: Path, tmp_path: Path, name: str, change: object) -> None:
    """A changed hash, wheel or name, and what is missing: code 65, one line; untouched it is 0."""
    place, _ = packed(house, tmp_path, "--python", "3.10")
    assert fleet("pack", "--verify", place).returncode == 0
    new = change((place / name).read_bytes())  # type: ignore[operator]
    (place / name).unlink()
    if new is not None:
        (place / name).write_bytes(new)
    done = fleet("pack", "--verify", place, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (65, "", 1), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--extra", "demo"), 65, "amqtt"),
        (("--python", "2.7"), 2, "Python 2.7 on aarch64"),
        (("--platform", "armv7l"), 2, "on armv7l"),
        (("--offline", "/nowhere"), 66, "/nowhere"),
    ],
)
def test_what_can_not_be_packed(
    house: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """One line that says why, and nothing is left."""
    offline = () if "--offline" in arguments else ("--offline", house.parent)
    done = fleet("pack", house, "--out", tmp_path, *offline, *arguments, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("edge-agent")]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert says in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("gone", "left"), [("tomli-", "none of it"), ("numpy-1.26.4-cp310", "has numpy-1.26.4-cp")]
)
def test_a_wheel_that_is_missing_offline_is_named(tmp_path: Path, gone: str, left: str) -> None:
    """Which, for which Python and machine, what is there of it, and the command that gets it."""
    own = make_house(tmp_path / "wheels")
    for wheel in own.parent.glob(f"{gone}*"):
        wheel.unlink()
    done = fleet(
        "pack", own, "--offline", own.parent, "--out", tmp_path / "out", "--python", "3.10", check=False
    )
    line = done.stderr.splitlines()[-1]
    name = gone.partition("-")[0]
    assert done.returncode == 65
    assert f"no wheel of {name}" in line
    assert "for Python 3.10 on aarch64" in line
    assert f"{own.parent} has" in line
    assert left in line
    assert f"pip download '{name}" in line
    assert "--python-version 3.10 --platform manylinux2014_aarch64" in line


def test_a_source_that_is_none(tmp_path: Path) -> None:
    """A folder that is no checkout is code 66, the wheel of something else 65."""
    assert fleet("pack", tmp_path, "--out", tmp_path / "out", check=False).returncode == 66
    other = make_wheel(tmp_path, "other", "1")
    assert fleet("pack", other, "--out", tmp_path / "out", check=False).returncode == 65
    assert list((tmp_path / "out").iterdir()) == []


def test_the_agents_own_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    """Built from this checkout and from a copy with other modes and times, without a network."""
    tools = tmp_path / "tools"
    or_skip([sys.executable, "-m", "pip", "-q", "download", "--no-deps", f"--dest={tools}", "setuptools>=77"])
    other = tmp_path / "checkout"
    other.mkdir()
    for name in SOURCE:
        target = other / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / name, target)
    for path in other.rglob("*.py"):
        path.chmod(0o600)
    (other / "agent/build/lib").mkdir(parents=True)
    wheels = [build_own(source, tmp_path / source.name, offline=tools) for source in (ROOT, other)]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    found = read_wheel(wheels[0])
    assert (found.name, found.licence) == ("edge-agent", "Apache-2.0")
    assert [name for name, _ in found.texts] == ["licenses/LICENSE"]


def test_installed_beside_the_packages_of_the_distribution(house: Path, tmp_path: Path) -> None:
    """The distribution's cv2, built for NumPy 1, is seen and works; its older numpy is not the one that is taken."""
    if PYTHON not in {"3.10", "3.11", "3.12"}:
        pytest.skip(f"systems with Python {PYTHON} have NumPy 2")
    place, _ = packed(house, tmp_path, "--platform", platform.machine(), "--python", PYTHON)
    dist, venv = tmp_path / "dist-packages", tmp_path / "versions/x"
    (dist / "cv2").mkdir(parents=True)
    (dist / "numpy").mkdir()
    (dist / "numpy/__init__.py").write_text("__version__ = '1.24.2'\n")
    (dist / "numpy-1.24.2.dist-info").mkdir()
    (dist / "numpy-1.24.2.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: numpy\nVersion: 1.24.2\n"
    )
    (dist / "cv2/__init__.py").write_text(
        "import numpy\nif int(numpy.__version__.split('.')[0]) > 1:\n    raise ImportError('built for NumPy 1')\n"
    )
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(venv)], check=True)
    (venv / f"lib/python{PYTHON}/site-packages/zz-distribution.pth").write_text(f"{dist}\n")
    install = (
        "--isolated",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--require-hashes",
    )
    told = (
        f"--find-links={place / 'wheels'}",
        "--ignore-installed",
        "--no-deps",
        "-r",
        place / "requirements.txt",
    )
    subprocess.run([venv / "bin/python", "-m", "pip", *install, *told], check=True, timeout=HANGS_S)
    script = "import cv2, numpy, edge_agent; print(numpy.__version__, edge_agent.version)"
    done = subprocess.run(
        [venv / "bin/python", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "1.26.4 9.8.7\n"
