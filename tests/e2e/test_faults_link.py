"""Over a bad radio link, 30 % of all packets lost and two seconds there and back, nothing is lost or told twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.lab import ROOT


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_bad_link_loses_nothing(tmp_path: Path) -> None:
    """All arrive, each once and in order."""
    command = [sys.executable, "-m", "tests.faults", "link", "--json", str(tmp_path / "link.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    if done.stderr.startswith("link: "):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout
    verdict = json.loads((tmp_path / "link.json").read_text())["verdict"]
    assert (verdict["lost"], verdict["copies"]) == (0, 0)
