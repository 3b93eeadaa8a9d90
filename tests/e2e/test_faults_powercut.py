"""Power cuts of a virtual machine: every event that was told to be committed is on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import guest
from tests.faults.powercut import cut_power


@pytest.mark.long
@pytest.mark.timeout(900)
def test_power_cuts(tmp_path: Path) -> None:
    """Ten copies of the running machine's disk. EDGE_AGENT_TEST_VM names a directory that keeps the kernel."""
    if os.geteuid():
        pytest.skip("needs root, to mount the disk")
    work = Path(os.environ.get("EDGE_AGENT_TEST_VM", tmp_path))
    try:
        cuts = cut_power(tmp_path, cuts=10, work=work)
    except guest.CannotRun as cannot:
        pytest.skip(str(cannot))
    assert [cut.lost for cut in cuts] == [0] * 10
    assert all(cut.accounts_hold for cut in cuts)
    assert cuts[-1].told > cuts[0].told > 0
