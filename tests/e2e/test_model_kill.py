"""kill -9 at every call of every change of the model store: an old or a new model after it, never none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.modelkills import OPERATIONS
from tests.patience import HANGS_S

ALLOWED = {
    "install, the first": {"factory", "one"},
    "install, another": {"one", "two"},
    "install of a .zip": {"one", "two"},
    "install over a pending one": {"two", "three"},
    "install that fails its trial": {"one"},
    "install of what was damaged": {"factory", "one"},
    "begin": {"two"},
    "begin, the fourth": {"one"},
    "commit": {"two"},
    "fail": {"one", "two"},
    "rollback": {"one", "two"},
    "gc": {"three"},
}
"""What may run after a kill in each operation."""
ROOT, MEMORY = Path(__file__).parents[2], "/dev/shm"  # noqa: S108 - for a folder of our own


@pytest.mark.parametrize("operation", ALLOWED)
def test_a_kill_at_any_point_leaves_a_model(operation: str) -> None:
    """After each a start finds a whole bundle, or the factory's, and another installation goes through."""
    # In memory where that can be: what a kill leaves is the same, and hundreds of installations need no disk.
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.modelkills", operation, folder],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=2 * HANGS_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    began = ", ".join(f"{count} x {name}" for name, count in seen["began"].items())
    print(f"\n{operation:32} {seen['points']:4} kills; then ran: {began}")
    assert seen["problems"] == []
    assert set(seen["began"]) <= ALLOWED[operation]
    assert seen["points"] >= 3, "the kills hit nothing"


def test_every_operation_has_its_kills() -> None:
    """What is listed here is what there is to kill."""
    assert set(ALLOWED) == set(OPERATIONS)
