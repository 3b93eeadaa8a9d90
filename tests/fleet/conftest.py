"""What the tests of rollouts share: the base that hosts boot, and releases to roll out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fleet.ansible import programs
from tests.fleet.releases import Releases
from tests.hosts.base import ROOT, Base, kept, make_base, skip_unless_possible


@pytest.fixture(scope="session")
def base() -> Base:
    """Return the system that the hosts boot."""
    skip_unless_possible()
    programs()
    return make_base(kept())


@pytest.fixture(scope="session")
def releases(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Return what makes releases."""
    return Releases(tmp_path_factory.mktemp("releases"))


@pytest.fixture
def wall_clock(tmp_path: Path) -> Path:
    """Return a library that moves the wall clock of a program."""
    if (compiler := shutil.which("gcc")) is None:
        pytest.skip("gcc is not installed")
    made, source = tmp_path / "wall_clock.so", ROOT / "tests/e2e/wall_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(source)], check=True)
    return made
