"""What the tests of rollouts share: the base that hosts boot, and releases to roll out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fleet.ansible import programs
from tests.fleet.fleet import Fleet, fleet
from tests.fleet.releases import Releases
from tests.hosts.base import ROOT, Base, kept, make_base, skip_unless_possible

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture(scope="module")
def hosts(base: Base) -> Iterator[Fleet]:
    """Return a fleet with nothing on its hosts yet."""
    with fleet(base) as made:
        yield made


@pytest.fixture(scope="session")
def first(releases: Releases) -> Path:
    """Return a release of this tree."""
    return releases.make("0.1.0")


@pytest.fixture(scope="session")
def second(releases: Releases) -> Path:
    """Return the one after it."""
    return releases.make("0.2.0")


@pytest.fixture
def wall_clock(tmp_path: Path) -> Path:
    """Return a library that moves the wall clock of a program."""
    if (compiler := shutil.which("gcc")) is None:
        pytest.skip("gcc is not installed")
    made, source = tmp_path / "wall_clock.so", ROOT / "tests/e2e/wall_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(source)], check=True)
    return made
