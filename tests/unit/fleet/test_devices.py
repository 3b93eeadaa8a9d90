"""A fleet from the messages of its devices, whatever they send."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agent.fleet import devices
from agent.fleet.devices import Fleet, summary
from agent.fleet.table import page_size, view

if TYPE_CHECKING:
    import pytest

MODEL = {"name": "coco", "version": 3, "state": "committed"}
KINDS = ("status", "health", "stats")


def told(
    fleet: Fleet,
    name: str,
    *,
    state: str = "online",
    verdict: str | None = "ok",
    now_s: float = 0.0,
    **values: float,
) -> None:
    """Have a device tell all."""

    def take(kind: str, content: object) -> None:
        fleet.take(f"edge/{name}/{kind}", json.dumps(content).encode(), now_s, retained=kind != "stats")

    take("status", {"schema": 1, "state": state, "version": "1.2.3", "more": [1]})
    if verdict:
        take("health", {"verdict": verdict, "reasons": ["why"], "model": MODEL})
    take("stats", {"values": {f"edge_agent_{key}": value for key, value in values.items()}})


def shown(fleet: Fleet, *, now_s: float = 1.0, width: int = 80, matching: str = "", **page: int) -> str:
    """Return the table as a pipe of so many columns gets it."""
    found = fleet.devices(now_s, matching=matching)
    console = Console(file=io.StringIO(), width=width)
    console.print(view(found, summary(found), **page))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_worst_first() -> None:
    """Stuck, offline, degraded, silent, unknown, ok; within that by name."""
    fleet = Fleet("edge")
    told(fleet, "b-ok", now_s=200.0)
    told(fleet, "a-ok", now_s=200.0)
    told(fleet, "silent")
    told(fleet, "degraded", verdict="degraded", now_s=200.0)
    told(fleet, "gone", state="offline", verdict="stuck")
    told(fleet, "stuck", verdict="stuck")
    told(fleet, "new", verdict=None, now_s=200.0)
    found = fleet.devices(201.0)
    assert [(d.name, d.health) for d in found] == [
        ("stuck", "stuck"), ("gone", "offline"), ("degraded", "degraded"), ("silent", "silent"),
        ("new", "unknown"), ("a-ok", "ok"), ("b-ok", "ok"),
    ]  # fmt: skip
    assert summary(found).health == {
        "stuck": 1, "offline": 1, "degraded": 1, "silent": 1, "unknown": 1, "ok": 2,
    }  # fmt: skip
    assert summary(found).versions == {"1.2.3": 7}
    assert summary(found).models == {"coco 3": 6, "?": 1}


def test_numbers_in_the_table() -> None:
    """In 80 columns: health, version, model, rate, latency, heat, drops, gaps and when it was seen."""
    fleet = Fleet("edge")
    told(
        fleet, "yard", inference_rate_total_hertz=4.93, inference_p95_seconds=0.0521, hottest_celsius=71.4,
        slowed=1, drops_total=12, gaps_total=3,
    )  # fmt: skip
    *_, row, _ = shown(fleet).splitlines()
    assert row.split() == ["yard", "ok", "1.2.3", "coco", "3", "4.93", "52.1", "71!", "12", "3", "1", "s"]
    assert fleet.complete()


def test_pages_and_filter() -> None:
    """A page says where it is; the filter goes by name, health, version and model."""
    fleet = Fleet("edge")
    for number in range(1000):
        told(fleet, f"dev{number:04}", verdict="degraded" if number == 7 else "ok")
    text = shown(fleet, first=40, count=page_size(24))
    assert "1000 devices:  1 degraded  999 ok" in text
    assert "41 to 58 of 1000" in text
    assert "dev0040" in text
    assert len(text.splitlines()) < 24
    assert [d.name for d in fleet.devices(1.0, matching="degraded")] == ["dev0007"]


def test_a_device_that_was_removed_is_gone() -> None:
    """Its retained status is deleted."""
    fleet = Fleet("edge")
    told(fleet, "yard")
    fleet.take("edge/yard/status", b"", 1.0, retained=False)
    assert fleet.devices(2.0) == []


def test_escapes_of_a_device_do_not_reach_the_terminal() -> None:
    """Who controls a device does not control the terminal of who watches."""
    fleet = Fleet("edge")
    status = {"state": "online", "version": "\x1b[2J" + "x" * 500}
    fleet.take("edge/a\x1b[31m/status", json.dumps(status).encode(), 0.0, retained=True)
    assert "\x1b" not in shown(fleet)
    assert len(fleet.devices(1.0)[0].version) == 80


def test_devices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over the bound is counted."""
    monkeypatch.setattr(devices, "MOST", 2)
    fleet = Fleet("edge")
    for name in "abc":
        fleet.take(f"edge/{name}/stats", b"", 0.0, retained=False)
    assert (len(fleet.devices(1.0)), fleet.left_out) == (2, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["state", "verdict", "values", "model"]), inner)
    ),
)


@given(st.sampled_from(KINDS), st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_of_one_breaks_no_other(kind: str, payload: bytes) -> None:
    """Whatever a device sends, the others are shown as before."""
    fleet = Fleet("edge")
    told(fleet, "good")
    fleet.take(f"edge/bad/{kind}", payload, 0.0, retained=False)
    found = {device.name: device for device in fleet.devices(1.0)}
    assert found["good"].health == "ok"
    assert found["good"].unreadable == 0
    assert "good" in shown(fleet)


def test_deep_and_huge_payloads_are_counted() -> None:
    """Nested beyond what a decoder takes, or larger than any message of an agent."""
    fleet = Fleet("edge")
    fleet.take("edge/bad/health", b'{"model":' * 100_000, 0.0, retained=False)
    fleet.take("edge/bad/stats", b" " * (300 << 10), 0.0, retained=False)
    fleet.take("edge/bad/stats", b'{"values":{"edge_agent_drops_total":1e999}}', 0.0, retained=False)
    assert fleet.devices(1.0)[0].unreadable == 3
