"""The tests that need a V4L2 camera, in a small virtual machine with the kernel's test driver vivid."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("cameras") / "v4l2_vm.sh"
CANNOT = 77


@pytest.mark.long
def test_v4l2_in_a_virtual_machine(tmp_path: Path) -> None:
    """Contract, formats, times, busy, unplugged and plugged in again: two minutes, and 300 MB from apt once.

    EDGE_AGENT_TEST_VM names a directory that keeps the download.
    """
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the machine's Debian 12 has Python 3.11: so must be the one whose packages it gets")
    if os.geteuid():
        pytest.skip("needs root")
    work = os.environ.get("EDGE_AGENT_TEST_VM", str(tmp_path))
    done = subprocess.run(
        [str(SCRIPT), str(ROOT), sysconfig.get_path("platlib"), work],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stdout.strip()[-200:] or "apt has no kernel or base system for it")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
