"""What an operator at the device does with a running agent: cameras off and on, sampling, reload; and a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tests.e2e.brokers import Subscriber, mosquitto, wait_for
from tests.e2e.test_model_swap import ROOT, clip  # noqa: F401 - a fixture
from tests.e2e.test_several_cameras import agent, write
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable


def edge(*words: str, code: int = 0) -> str:
    """Return what the command prints; where it fails, what it complains of."""
    command = [sys.executable, "-m", "agent", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def seen(subscriber: Subscriber, topic: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(payload) for payload in subscriber.payloads(topic)]


def until(condition: Callable[[], Any], what: str) -> None:
    wait_for(condition, HANGS_S, what)


def test_cameras_are_switched_and_sampled_while_the_agent_runs(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    """Off: events end, counts go to 0, after a restart too; sampling changes without a new connection."""
    config = tmp_path / "c.toml"
    with mosquitto(tmp_path) as broker, Subscriber(broker.port, session="all") as told:
        write(config, {"yard": clip, "door": clip}, port=broker.port)
        of = ("--config", str(config))
        with agent(config) as running:
            until(lambda: any(e["camera"] == "yard" for e in seen(told, "/events/yard")), "an event")
            edge("camera", "disable", "yard", *of)
            until(lambda: seen(told, "/camera/yard")[-1]["enabled"] is False, "the settings")
            until(lambda: seen(told, "/events/yard")[-1]["type"] == "end", "the end")
            ends = [e["reason"] for e in seen(told, "/events/yard") if e["type"] == "end"]
            assert set(ends) <= {"lost", "disabled"}
            until(lambda: seen(told, "/state/yard/person")[-1]["count"] == 0, "the count")
            done = json.loads(edge("do", "sampling.set", "camera=door", "mode=uniform", "hz=2", *of))
            assert (done["enabled"], done["sampling"]["hz"]) == (True, 2.0)
            assert "no such camera: 'gate'; there is yard, door" in edge(
                "camera", "enable", "gate", *of, code=2
            )
            assert "hz" in edge("do", "sampling.set", "camera=door", "hz=-1", *of, code=78)
            edge("do", "shutdown", *of, code=2)
            assert json.loads(edge("do", "reload", *of)) == {"reloaded": "no camera changed"}
            config.write_text(config.read_text().replace("[mqtt]", "[[[mqtt]"))
            edge("do", "reload", "--state", str(tmp_path / "state"), code=78)
            write(config, {"yard": clip, "door": clip}, port=broker.port)
            until(
                lambda: any(e["sampling"]["mode"] == "uniform" for e in seen(told, "/events/door")),
                "an event under the new sampling",
            )
            assert running.stop() == 0
        assert len([line for line in running.lines if "connected to " in line and "door" in line]) == 1
        with agent(config) as again:
            again.wait_for("camera yard: disabled by command")
            until(lambda: "camera door" in "".join(again.lines), "the other camera")
            edge("camera", "enable", "yard", *of)
            again.wait_for("camera yard: connected")
            assert (
                json.loads(edge("do", "sampling.set", "camera=door", *of))["sampling"]["mode"] == "interval"
            )
            assert again.stop() == 0
    overrides = json.loads((tmp_path / "state" / "overrides.json").read_bytes())
    assert overrides == {"schema": 1, "cameras": {}}
