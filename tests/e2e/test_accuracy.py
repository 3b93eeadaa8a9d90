"""The whole path against ground truth: the check that colour, placing, decoding and NMS are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.accuracy import CASES, Case, person_ap50

SHARED = Path(__file__).parents[3] / "shared"


@pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="needs the test data in ../shared (real clips and models)"
)
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_person_ap50_on_pets(case: Case, tmp_path: Path) -> None:
    """Each model family reaches its floor on a real clip, through the command as a user runs it."""
    assert person_ap50(case, SHARED, tmp_path) >= case.floor
