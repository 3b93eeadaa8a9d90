"""Topics: the tree of one device, and names that stay one level each."""

from __future__ import annotations

import pytest

from agent.errors import BadConfig
from agent.topics import Topics


def test_topics_lie_below_root_and_device() -> None:
    """The tree is <root>/<device>/...; a root may have levels, a label is made safe."""
    names = Topics.of("dev1", root="site/a")
    assert names.events("yard") == "site/a/dev1/events/yard"
    assert names.state("yard", "cell phone/#") == "site/a/dev1/state/yard/cell phone__"
    assert (names.status, names.gap) == ("site/a/dev1/status", "site/a/dev1/gap")


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "a+", "#", "$SYS", "a\0", "a\nb", "x" * 70_000, "ü" * 33, "\ud800"]
)
def test_names_that_would_break_a_topic_are_refused(name: str) -> None:
    """Each is a config error of one short line."""
    with pytest.raises(BadConfig, match="camera name") as caught:
        Topics.of("dev").events(name)
    assert len(str(caught.value)) < 400
