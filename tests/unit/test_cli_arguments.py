"""What is written as KEY=VALUE for a command."""

from __future__ import annotations

import pytest

from agent.cli.asking import arguments
from agent.errors import UsageError


def test_values_are_json_where_they_can_be() -> None:
    """Numbers, words of JSON and texts; a camera that is called 1 keeps its name."""
    given = ("camera=1", "hz=2.5", "mode=uniform", "on=true", "x=NaN", "empty=", "more=a=b")
    assert arguments(given) == {
        "camera": "1",
        "hz": 2.5,
        "mode": "uniform",
        "on": True,
        "x": "NaN",
        "empty": "",
        "more": "a=b",
    }


@pytest.mark.parametrize("given", [("camera",), ("=1",), ("hz=1", "hz=2")])
def test_what_is_no_argument_is_refused(given: tuple[str, ...]) -> None:
    """It is named."""
    with pytest.raises(UsageError, match="argument"):
        arguments(given)
