"""What the role writes as config.toml is what the inventory says, and the agent reads it."""

from __future__ import annotations

from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from agent.config.load import parse_config
from tests.unit.ansible import filters

pytest.importorskip("tomllib", reason="the controller's Python is 3.11 or later")
FILTERS = filters()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = (
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(PLAIN, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, VALUES, min_size=1, max_size=4), max_size=4))
def test_toml_says_what_the_variables_say(tables: dict[str, Any]) -> None:
    """Whatever the keys and values are, a reader of TOML gets them back."""
    assert tomli.loads(FILTERS["edge_agent_to_toml"](tables)) == tables


def test_cameras_become_tables_that_the_agent_reads() -> None:
    """Cameras with tables of their own, zones in them, come out as the agent's configuration has them."""
    zone = {"name": "door", "polygon": [[0.1, 0.4], [0.5, 0.4], [0.5, 1.0]], "labels": ["person"]}
    cameras = [
        {"name": "yard", "source": 'a"b\\c.mp4', "detect": {"zones": [zone], "thresholds": {"person": 0.6}}},
        {
            "name": "door",
            "source": "rtsp://10.0.0.2/x",
            "sampling": {"mode": "uniform", "hz": 1},
            "enabled": False,
        },
    ]
    text = FILTERS["edge_agent_to_toml"]({"device": "pi4", "mqtt": {"host": "broker.lan"}, "camera": cameras})
    config = parse_config(text.encode())
    assert [camera.name for camera in config.camera] == ["yard", "door"]
    assert config.camera[0].source == 'a"b\\c.mp4'
    assert config.camera[0].detect is not None
    assert config.camera[0].detect.zones[0].polygon[2] == (0.5, 1.0)
    assert config.camera[0].detect.thresholds == {"person": 0.6}
    assert config.camera[1].sampling is not None
    assert config.camera[1].sampling.hz == 1.0


def test_empty_tables_are_left_out() -> None:
    """What the inventory leaves empty has the agent's default."""
    text = FILTERS["edge_agent_to_toml"]({"model": "", "mqtt": {}, "outbox": None, "device": "pi4"})
    assert tomli.loads(text) == {"device": "pi4"}


def test_what_toml_cannot_hold_is_refused() -> None:
    """A value that is nothing of TOML is named."""
    with pytest.raises(ValueError, match="None"):
        FILTERS["edge_agent_to_toml"]({"mqtt": {"host": None}})
