"""The Grafana dashboard: it can be imported anywhere, and asks for nothing that the agent does not tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from agent.metrics import METRICS
from tests.patience import HANGS_S

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "ansible/grafana/edge-agent.json").read_text(encoding="utf-8")
)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
TOLD = {metric.name: metric for metric in METRICS}
SERIES = set(TOLD) | {
    f"{name}_{part}" for name in TOLD for part in ("bucket", "sum", "count") if TOLD[name].kind == "histogram"
}


def metric_of(name: str):
    """Return the metric that a series belongs to."""
    return TOLD[name if name in TOLD else re.sub("_(bucket|sum|count)$", "", name)]


def test_no_metric_is_unknown() -> None:
    """In the panels and in the variables."""
    asked = set(re.findall(r"edge_agent_\w+", json.dumps(DASHBOARD)))
    assert asked <= SERIES


def test_every_metric_is_shown() -> None:
    """What is told can be seen."""
    assert {
        metric_of(name).name for text in EXPRESSIONS for name in re.findall(r"edge_agent_\w+", text)
    } == set(TOLD)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_labels_are_those_of_the_metric(expression: str) -> None:
    """In selectors; and counters are only seen through a rate or an increase, but for repairs."""
    for name, selector in re.findall(r"(edge_agent_\w+)\{([^}]*)\}", expression):
        metric = metric_of(name)
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", selector)) <= {*metric.labels, "instance"}
        if metric.kind in {"counter", "histogram"} and name != "edge_agent_outbox_repairs_total":
            assert re.search(rf"(rate|increase)\({name}\{{[^}}]*\}}\[", expression)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legends_name_labels_that_are_there(panel: dict[str, Any]) -> None:
    """A legend in braces is a label of the metric, and of the aggregation where there is one."""
    for target in panel["targets"]:
        kept = re.search(r"by \(([^)]*)\)", target["expr"])
        names = re.findall(r"edge_agent_\w+", target["expr"])
        labels = {"instance", *(label for name in names for label in metric_of(name).labels)}
        if kept:
            labels = set(kept[1].replace(" ", "").split(","))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


def test_it_belongs_to_no_grafana() -> None:
    """No id of its own, and every data source is the variable's."""
    assert DASHBOARD["id"] is None
    assert DASHBOARD["uid"] is None
    sources = set(re.findall(r'"uid": "([^"]*)"', json.dumps(DASHBOARD)))
    assert sources == {"${datasource}"}
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"


def test_panels_have_words_and_do_not_overlap() -> None:
    """Each has a title and a description, an id of its own and a place of its own."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"].endswith(".") for panel in PANELS)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    """By promtool, as recording rules, with Grafana's variables filled in."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    rules = [
        {"record": f"dashboard:expression_{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", path], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 0, done.stderr
