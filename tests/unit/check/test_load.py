"""The estimate of what cameras ask of engine and processor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.check.load import Demand, estimate

amounts = st.builds(
    Demand,
    asked_hz=st.floats(0, 240),
    infer_ms=st.floats(0.1, 2000),
    cpu_ms=st.floats(0.1, 8000),
    decode_share=st.floats(0, 4),
)


def test_a_light_load_is_fine() -> None:
    """5 inferences a second of 40 ms and a tenth of a core for decoding."""
    (row,) = estimate([Demand(5.0, 40.0, 40.0, 0.1)], cores=4)
    assert (row.state, row.what) == ("ok", "load (estimate)")
    assert row.seen == "about 0.3 of 4 cores: inference 0.2, decoding 0.1"


def test_an_engine_that_can_not_keep_up_is_told() -> None:
    """80 ms an inference, 25 a second asked: 12.5 are given, and what becomes of the rest is said."""
    rows = estimate([Demand(25.0, 80.0, 80.0, 0.1)], cores=4)
    assert [row.state for row in rows] == ["ok", "warning"]
    assert rows[1].seen == (
        "the engine gives 12.5/s, the cameras ask 25/s: newest frames win, the rest is dropped"
    )


def test_too_little_processor_is_told() -> None:
    """Decoding alone takes more than there is."""
    (row,) = estimate([Demand(1.0, 10.0, 10.0, 1.9)], cores=2)
    assert row.state == "warning"
    assert "substream" in row.fix


def test_without_cameras_there_is_nothing_to_say() -> None:
    """No row is better than one of zeros."""
    assert estimate([], cores=4) == []


@given(st.lists(amounts, min_size=1, max_size=8), st.integers(1, 16))
def test_the_engine_is_never_said_to_do_more_than_all_the_time(demands: list[Demand], cores: int) -> None:
    """Whatever is asked, nothing is raised, and inference is at most one engine that is always busy."""
    rows = estimate(demands, cores=cores)
    said = float(rows[0].seen.split("inference ")[1].split(",")[0])
    most = max(demand.cpu_ms / demand.infer_ms for demand in demands)
    assert said <= most * 1.1
    assert all(bool(row.fix) == (row.state != "ok") for row in rows)
