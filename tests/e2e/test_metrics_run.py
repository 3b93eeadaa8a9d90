"""The numbers of an agent at work: over HTTP as Prometheus gets them, over MQTT as `stats`, and they agree."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent import wire
from agent.metrics import METRICS
from agent.starter import STARTER, sample_clip
from tests.e2e.brokers import free_port, mosquitto
from tests.e2e.test_run import subscribed
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(wire.__file__).parent / "schema" / "stats-v1.schema.json").read_text())
CONFIG = """
device = "test"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
port = {broker}
[metrics]
listen = "127.0.0.1:{metrics}"
[sampling]
mode = "uniform"
hz = 5
[[camera]]
name = "yard"
source = "{clip}"
"""


def scraped(port: int) -> dict[str, float]:
    """Return every number under its name and labels; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANGS_S) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Run mosquitto; return its port and a free one."""
    with mosquitto(tmp_path) as broker:
        yield broker.port, free_port()


def test_an_agent_at_work_tells_its_numbers(ports: tuple[int, int], tmp_path: Path) -> None:
    """Frames, stages, ages, the outbox and the device; each frame is accounted for; MQTT has the same names."""
    broker, port = ports
    (tmp_path / "config.toml").write_text(CONFIG.format(broker=broker, metrics=port, clip=sample_clip()))
    with subscribed(broker) as subscriber:
        command = [sys.executable, "-m", "agent", "run", "--config", str(tmp_path / "config.toml")]
        agent = subprocess.Popen(command, cwd=ROOT)
        try:
            deadline_s = time.monotonic() + HANGS_S
            while (seen := scraped(port)).get("edge_agent_frames_inferred_total yard", 0) < 20:
                assert time.monotonic() < deadline_s
                assert agent.poll() is None
                time.sleep(0.2)
            assert subscriber.wait_for(
                lambda: any(topic == "edge/test/stats" for topic, *_ in subscriber.messages)
            )
        finally:
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(HANGS_S) == 0
    families = {metric.name for metric in METRICS if metric.kind != "histogram"}
    missing = families - {name.partition(" ")[0] for name in seen}
    unknown_here = {"edge_agent_temperature_celsius", "edge_agent_temperature_limit_celsius"}
    assert missing <= {*unknown_here, "edge_agent_commands_total"}, "no sensor, and no command came"

    inferred = seen["edge_agent_frames_inferred_total yard"]
    reasons = ("not_sampled", "replaced", "suppressed")
    dropped = [seen[f"edge_agent_frames_dropped_total yard {reason}"] for reason in reasons]
    assert dropped[0] > inferred / 2  # 10 fps, of which 5 are sampled
    assert seen["edge_agent_frames_total yard"] - inferred - sum(dropped) in range(5)  # in work
    model = STARTER
    for stage in ("prepare", "infer", "finish"):
        assert seen[f"edge_agent_stage_duration_seconds_count {model} {stage}"] - inferred in range(-2, 4)
    assert 0 < seen["edge_agent_frame_age_seconds_sum yard"] / inferred < 60
    assert seen[f"edge_agent_delegated_nodes litert-xnnpack {model}"] >= 1
    assert 0 < seen["edge_agent_inference_rate_hertz yard"] < 8
    assert seen["edge_agent_camera_state yard ok"] == 1
    assert seen["edge_agent_broker_connected"] == seen["edge_agent_broker_connections_total"] == 1
    assert seen["edge_agent_messages_total P0"] >= seen["edge_agent_messages_confirmed_total P0"] >= 0
    assert 0 < seen["edge_agent_sampling_budget_ratio"] <= 1

    stats = next(payload for topic, _, payload in subscriber.messages if topic == "edge/test/stats")
    jsonschema.validate(stats, SCHEMA)
    assert stats["id"].split("/")[2] == "P2"
    assert 'edge_agent_frames_total{camera="yard"}' in stats["values"]
