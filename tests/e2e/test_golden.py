"""A golden run: the sample clip through the starter gives the events it always gave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.starter import STARTER, sample_clip
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / f"sample-{STARTER}.json"
# Decoders and scalers of other FFmpeg versions and processors round differently.
SEQ, SCORE, BOX = 2, 0.06, 0.03


def events_of(tmp_path: Path) -> list[dict[str, Any]]:
    """Run the agent as fast as it goes and return what the events say, without ids and wall-clock times."""
    sink = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "agent", "run", "--source", sample_clip(), "--pace", "fastest"]
    command += ["--sink", sink, "--state", tmp_path / "state"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=HANGS_S)
    events = [json.loads(line) for line in sink.read_text().splitlines()]
    lives = {event_id: n for n, event_id in enumerate(dict.fromkeys(event["event_id"] for event in events))}
    keys = ("type", "label", "score", "box", "stationary", "reason")
    return [
        {"life": lives[event["event_id"]], "seq": event["frame"]["seq"], **{key: event[key] for key in keys}}
        for event in sorted(events, key=lambda event: event["frame"]["seq"])
    ]


def test_the_sample_clip_gives_the_stored_events(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Types, order and lives are the same; frames, scores and boxes within rounding."""
    events = events_of(tmp_path)
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n]\n")
    golden = json.loads(GOLDEN.read_text())
    exact = ("type", "life", "label", "reason")
    assert [[e[k] for k in exact] for e in events] == [[e[k] for k in exact] for e in golden]
    for got, stored in zip(events, golden, strict=True):
        assert abs(got["seq"] - stored["seq"]) <= SEQ
        assert got["score"] == pytest.approx(stored["score"], abs=SCORE)
        assert got["box"] == pytest.approx(stored["box"], abs=BOX)
