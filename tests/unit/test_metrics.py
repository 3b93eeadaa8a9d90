"""The table of metrics: names by the rules, all of a snapshot in it, the same in every form it is told in."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent.camerahealth import CameraState
from agent.hardware import Throttling
from agent.histogram import BOUNDS_S, Distribution, Histogram
from agent.metrics import METRICS, Series, read_process, series
from agent.metrics.exposition import expose
from agent.metrics.stats import summary, values
from tests.patience import HANGS_S
from tests.unit.metrics_samples import SNAPSHOT

BASE_UNITS = ("seconds", "bytes", "celsius", "ratio", "hertz", "messages")
NO_UNIT = {
    "edge_agent_info", "edge_agent_verdict", "edge_agent_clock_synced", "edge_agent_open_descriptors",
    "edge_agent_threads", "edge_agent_camera_state", "edge_agent_delegated_nodes", "edge_agent_outbox_failing",
    "edge_agent_outbox_durable", "edge_agent_broker_connected", "edge_agent_under_voltage", "edge_agent_slowed",
}  # fmt: skip


def exposed(accept: str = "") -> str:
    """Return what Prometheus gets."""
    return expose(SNAPSHOT, accept)[1].decode()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric) -> None:
    """Prefix, snake case, base units, _total on counters alone; no label says what the name says."""
    assert re.fullmatch(r"edge_agent(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    if metric.kind != "counter":
        assert metric.name.endswith(BASE_UNITS) or metric.name in NO_UNIT
    assert not metric.name.endswith(("_count", "_sum", "_bucket"))
    assert not set(metric.labels) & {"le", "quantile", "instance", "job"}
    assert metric.help.endswith(".")


def test_every_metric_is_named_once_and_has_a_number() -> None:
    """The sample snapshot has something of everything, so that no row of the table is left unread."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {each.metric.name for each in series(SNAPSHOT)} == {metric.name for metric in METRICS}


def test_labels_fit_their_values() -> None:
    """As many values as labels, each set of them once in a metric."""
    seen = [(each.metric.name, each.labels) for each in series(SNAPSHOT)]
    assert len(set(seen)) == len(seen)
    assert all(len(each.labels) == len(each.metric.labels) for each in series(SNAPSHOT))


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("", parse_text), ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", parse_openmetrics)],
)
def test_prometheus_reads_what_is_told(accept: str, parse) -> None:
    """Both formats parse, and each number arrives with its labels, odd names included."""
    told = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(exposed(accept))
        for sample in family.samples
    }
    for each in series(SNAPSHOT):
        labels = dict(zip(each.metric.labels, each.labels, strict=True))
        if isinstance(each.value, Distribution):
            buckets = [
                *zip(map(str, BOUNDS_S), each.value.cumulative[:-1], strict=True),
                ("+Inf", each.value.count),
            ]
            for bound, count in buckets:
                key = tuple(sorted({**labels, "le": bound}.items()))
                assert told[f"{each.metric.name}_bucket", key] == count
            assert told[f"{each.metric.name}_sum", tuple(sorted(labels.items()))] == each.value.sum_s
        else:
            assert told[each.metric.name, tuple(sorted(labels.items()))] == each.value


def test_promtool_has_nothing_to_say() -> None:
    """Prometheus' own linter agrees."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=exposed(),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_losses_add_up_to_the_account() -> None:
    """Allocated = confirmed + lost + queued holds in the numbers too: rejected are not counted twice."""
    numbers = values(SNAPSHOT)

    def of(name: str, more: str = "") -> float:
        return numbers[f'edge_agent_messages_{name}total{{lane="P0"{more}}}']

    lost = sum(of("lost_", f',reason="{reason}"') for reason in ("evicted", "rejected", "corrupt"))
    assert of("") == of("confirmed_") + lost == 10


def test_a_state_is_one_of_all() -> None:
    """Exactly one state of a camera is 1; a state that has never been is 0, not absent."""
    states = {
        each.labels[1]: each.value
        for each in series(SNAPSHOT)
        if each.metric.name == "edge_agent_camera_state" and each.labels[0] == "yard"
    }
    assert states == {name: float(name == "ok") for name in get_args(CameraState)}


def test_stats_are_the_same_numbers_in_a_flat_table() -> None:
    """The names are those that Prometheus has; of a state only what holds, of a histogram number and sum."""
    numbers = values(SNAPSHOT)
    assert numbers['edge_agent_frames_dropped_total{camera="yard",reason="replaced"}'] == 8
    assert numbers['edge_agent_camera_state{camera="yard",state="ok"}'] == 1
    assert 'edge_agent_camera_state{camera="yard",state="down"}' not in numbers
    assert numbers['edge_agent_frame_age_seconds_count{camera="yard"}'] == 3
    assert numbers['edge_agent_frame_age_seconds_sum{camera="yard"}'] == 0.37
    assert numbers["edge_agent_sampling_budget_ratio"] == 0.5
    assert numbers["edge_agent_clock_synced"] == 1
    lines = exposed().splitlines()
    few = summary(SNAPSHOT)
    plain = [n for n in numbers if n not in few and not n.partition("{")[0].endswith(("_count", "_sum"))]
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in plain)


def test_this_process_has_memory_files_and_threads() -> None:
    """The kernel tells them."""
    seen = read_process()
    assert seen.memory_bytes > 10 << 20
    assert seen.descriptors >= 3
    assert seen.threads >= threading.active_count()


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_value_in_its_bucket(seconds: list[float]) -> None:
    """A value on a bound belongs below it, as Prometheus' `le` says; nothing is lost above the last."""
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    seen = histogram.read()
    assert seen.cumulative == [*(sum(s <= bound for s in seconds) for bound in BOUNDS_S), len(seconds)]
    assert seen.count == len(seconds)
    assert seen.sum_s == pytest.approx(sum(seconds))


def test_a_series_knows_its_metric() -> None:
    """The first is what Prometheus joins the others with."""
    assert next(iter(series(SNAPSHOT))) == Series(METRICS[0], ("1.2.3", "pi4"), 1)


def test_the_device_is_told_in_a_few_numbers() -> None:
    """Under names without labels, and none where there is nothing to tell yet."""
    told = values(SNAPSHOT)
    assert {name: told[f"edge_agent_{name}"] for name in ("inference_p95_seconds", "hottest_celsius")} == {
        "inference_p95_seconds": 0.021,
        "hottest_celsius": 82.06,
    }
    assert (told["edge_agent_drops_total"], told["edge_agent_gaps_total"]) == (8, 4)
    nothing = values(replace(SNAPSHOT, cameras=(), engines=(), throttling=Throttling()))
    assert not {name for name in nothing if "_p95_" in name or "rate_total" in name or "hottest" in name}
