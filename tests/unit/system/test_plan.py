"""The plan, and the accounts that go with it."""

from __future__ import annotations

import pytest

from agent.config.describe import example
from agent.errors import BadConfig
from agent.system.accounts import lacking
from agent.system.origin import sources
from agent.system.plan import BOARD_DROP_IN, CONFIG, SERVICE, make_plan, removal


def texts(program: str = "/opt/edge-agent/bin/edge-agent", drop_in: str = "") -> dict[str, str | None]:
    """Return the text of each planned file."""
    plan = make_plan(sources(), program=program, drop_in=drop_in, example=example())
    return {file.path: file.text for file in plan}


def test_the_unit_runs_the_program_that_installs_it() -> None:
    """In a virtual environment elsewhere too."""
    unit = texts("/srv/agent-0.2/bin/edge-agent")[SERVICE]
    assert unit is not None
    assert "ExecStart=/srv/agent-0.2/bin/edge-agent run\n" in unit
    assert "/opt/" not in unit


@pytest.mark.parametrize(
    "program", ["/opt/my agent/bin/edge-agent", "/opt/50%/x", "/opt/$HOME/x", "relative", "/a\n"]
)
def test_a_path_that_means_something_else_in_a_unit(program: str) -> None:
    """Is refused, and not escaped in five ways."""
    with pytest.raises(BadConfig, match="path of edge-agent"):
        texts(program)


def test_the_configuration_to_start_from() -> None:
    """Is the example with the service's state directory in force."""
    text = texts()[CONFIG]
    assert text is not None
    changed = [
        (old, new) for old, new in zip(example().splitlines(), text.splitlines(), strict=True) if old != new
    ]
    ((old, new),) = changed
    assert new.startswith('state_dir = "/var/lib/edge-agent" ')
    assert new.index("# ") == old.index("# ")


def test_a_drop_in_of_another_board_goes() -> None:
    """A card that was in a Jetson and is now in a PC."""
    assert texts(drop_in="[Service]\n")[BOARD_DROP_IN] == "[Service]\n"
    assert texts()[BOARD_DROP_IN] is None


def test_removal_undoes_all_that_is_ours() -> None:
    """And leaves the configuration."""
    assert {file.path for file in removal()} == texts().keys() - {CONFIG}
    assert all(file.text is None for file in removal())


def test_accounts_on_a_fresh_system() -> None:
    """All are to be made."""
    assert lacking("", "") == (
        "user edge-agent",
        "group video",
        "user edge-agent in group video",
        "group render",
        "user edge-agent in group render",
    )


def test_accounts_that_are_there() -> None:
    """What is there is not told; a user whose name begins alike is another one."""
    users = "edge-agent:x:997:997:::\n"
    assert lacking(users, "video:x:44:pi,edge-agent\nrender:x:106:edge-agent\n") == ()
    assert lacking(users, "video:x:44:edge-agent2\nrender:x:106:edge-agent\n") == (
        "user edge-agent in group video",
    )
    assert lacking("edge-agent2:x:1:1:::\ngarbage\n", "garbage\n")[0] == "user edge-agent"
