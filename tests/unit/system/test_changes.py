"""Plans carried out on real files: what is shown, what is written, what is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import AgentError, CannotCreate
from agent.system.changes import carry_out, diff, find
from agent.system.plan import SERVICE, VENDOR_DIR, File

PLAN = (
    File(SERVICE, "[Service]\nWatchdogSec=30\n"),
    File("etc/edge-agent/config.toml", "# yours\n", yours=True),
)


def test_carried_out_twice_changes_nothing(tmp_path: Path) -> None:
    """Both files are new at first; then there is nothing to do."""
    found = find(PLAN, tmp_path)
    assert [change.what for change in found] == ["new", "new"]
    carry_out(found, tmp_path)
    assert find(PLAN, tmp_path) == ()
    assert (tmp_path / SERVICE).read_text() == "[Service]\nWatchdogSec=30\n"
    assert (tmp_path / SERVICE).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc/edge-agent/config.toml").stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.rglob("*.conf*"))) + len(list(tmp_path.rglob(".*"))) == 0


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """`find` is what --dry-run does."""
    find(PLAN, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_yours_stays_as_it_is(tmp_path: Path) -> None:
    """Even when it is empty."""
    config = tmp_path / PLAN[1].path
    config.parent.mkdir(parents=True)
    config.write_text("")
    carry_out(find(PLAN, tmp_path), tmp_path)
    assert config.read_text() == ""


def test_a_change_is_shown_as_a_diff(tmp_path: Path) -> None:
    """With the path as the system knows it."""
    carry_out(find(PLAN, tmp_path), tmp_path)
    (tmp_path / SERVICE).write_text("[Service]\nWatchdogSec=60\n")
    (change,) = find(PLAN, tmp_path)
    assert change.what == "changed"
    assert diff(change).splitlines() == [
        f"--- /{SERVICE}",
        f"+++ /{SERVICE}",
        "@@ -1,2 +1,2 @@",
        " [Service]",
        "-WatchdogSec=60",
        "+WatchdogSec=30",
    ]


def test_undone_there_is_nothing_left(tmp_path: Path) -> None:
    """Nor are folders that came with it; those that hold something else stay."""
    (tmp_path / VENDOR_DIR / "python3.11").mkdir(parents=True)
    carry_out(find(PLAN[:1], tmp_path), tmp_path)
    gone = find([File(SERVICE, None)], tmp_path)
    assert [change.what for change in gone] == ["gone"]
    carry_out(gone, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "usr",
        "usr/local",
        "usr/local/lib",
        "usr/local/lib/python3.11",
    ]


def test_another_systems_links_do_not_lead_into_this_one(tmp_path: Path) -> None:
    """An absolute link in a mounted card means a place on the card."""
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "card").mkdir()
    (tmp_path / "card/etc").symlink_to(here)
    with pytest.raises(CannotCreate, match="leads out of"):
        find(PLAN, tmp_path / "card")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("block", ["file in the way", "folder in the place"])
def test_what_can_not_be_written_is_one_line(tmp_path: Path, block: str) -> None:
    """With its path and the reason; no half-written file is left."""
    target = tmp_path / SERVICE
    if block == "file in the way":
        target.parent.parent.mkdir(parents=True)
        target.parent.touch()
    else:
        target.mkdir(parents=True)
        (target / "x").touch()
    with pytest.raises(AgentError, match=r"edge-agent\.service") as caught:
        carry_out(find(PLAN, tmp_path), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob(f".*{os.getpid()}"))
