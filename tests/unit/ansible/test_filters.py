"""Boards, releases, bundles and the rows of `edge-agent check`, as the role takes them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from agent.hardware.table import JETSON_SOCS, PI_SOCS
from tests.unit.ansible import ROLE, filters

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("tomllib", reason="the controller's Python is 3.11 or later")
yaml = pytest.importorskip("yaml", reason="PyYAML comes with the tools of calibration")
FILTERS = filters()
BOARDS = yaml.safe_load((ROLE / "vars/main.yml").read_text())["edge_agent_boards"]
RELEASE = 'name = "0.2.0-0123456789ab"\nversion = "0.2.0"\npythons = ["3.11"]\nplatforms = ["aarch64"]\n'


@pytest.mark.parametrize(
    ("compatible", "machine", "board"),
    [
        (["raspberrypi,5-model-b", "brcm,bcm2712"], "aarch64", "pi5"),
        (["raspberrypi,4-model-b", "brcm,bcm2711"], "aarch64", "pi4"),
        (["nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"], "aarch64", "jetson-orin"),
        (["nvidia,tegra210"], "aarch64", "unknown"),
        ([], "aarch64", "unknown"),
        ([], "x86_64", "pc"),
    ],
)
def test_boards_are_told_by_their_chip(compatible: list[str], machine: str, board: str) -> None:
    """The entries of the device tree tell the board; a PC has none."""
    seen = {"compatible": compatible, "machine": machine}
    assert FILTERS["edge_agent_board_of"](seen, BOARDS) == board


def test_the_table_of_boards_is_the_agents() -> None:
    """Every entry is one that the agent knows, and every chip that the agent supports has one."""
    entries = {entry for board in BOARDS.values() for entry in board}
    without_64_bits = {"brcm,bcm2836", "brcm,bcm2835"}
    supported = {entry for entry, soc in JETSON_SOCS.items() if soc.needs} | (
        PI_SOCS.keys() - without_64_bits
    )
    assert entries == supported


def test_a_release_is_read(tmp_path: Path) -> None:
    """A folder of `fleet pack` tells its name, version, Pythons and platforms."""
    (tmp_path / "release.toml").write_text(RELEASE)
    assert FILTERS["edge_agent_read_release"](tmp_path)["name"] == "0.2.0-0123456789ab"


@pytest.mark.parametrize("text", [None, "name = ", 'name = "../x"', "name = 1"])
def test_what_is_no_release_is_refused(tmp_path: Path, text: str | None) -> None:
    """A folder without a good release.toml is named before a device is touched."""
    if text is not None:
        (tmp_path / "release.toml").write_text(text)
    with pytest.raises(ValueError, match=str(tmp_path)):
        FILTERS["edge_agent_read_release"](tmp_path)


def test_a_bundle_has_one_name_as_folder_and_as_zip(tmp_path: Path) -> None:
    """The sha is that of model.toml, however the bundle comes; what is none is refused."""
    bundle, archive = tmp_path / "bundle", tmp_path / "bundle.zip"
    bundle.mkdir()
    (bundle / "model.toml").write_text("schema = 1\n")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(bundle / "model.toml", "bundle/model.toml")
    assert FILTERS["edge_agent_bundle_sha"](bundle) == FILTERS["edge_agent_bundle_sha"](archive)
    archive.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="no model bundle"):
        FILTERS["edge_agent_bundle_sha"](archive)


@pytest.mark.parametrize(
    ("what", "code", "refused_by"),
    [
        ("config", 78, {"config", "strict"}),
        ("state directory", 0, {"config", "strict"}),
        ("camera yard", 69, {"strict"}),
        ("camera yard", 0, {"strict"}),
        ("camera yard", 78, {"config", "strict"}),
        ("broker", 0, {"strict"}),
        ("broker", 66, {"config", "strict"}),
        ("broker", 78, {"config", "strict"}),
    ],
)
def test_a_fault_of_the_world_around_is_no_fault_of_the_configuration(
    what: str, code: int, refused_by: set[str]
) -> None:
    """A camera or broker that is away is left out unless all is asked for; a setting that is wrong never is."""
    rows = [{"what": what, "state": "fault", "seen": "seen", "fix": "mend it", "code": code}]
    rows.append({"what": "clock", "state": "warning", "seen": "not set", "fix": "", "code": 0})
    found = {
        how for how in ("config", "strict") if FILTERS["edge_agent_check_faults"]({"findings": rows}, how)
    }
    assert found == refused_by


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{"])
def test_no_answer_is_no_figures(text: str) -> None:
    """What is no status leaves nothing to compare with."""
    assert FILTERS["edge_agent_figures"](text) == {}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (
            {
                "msg": "The command exited with a non-zero return code.",
                "stderr": "one\nedge-agent: error: two\n",
            },
            "two",
        ),
        ({"msg": "not healthy", "stderr": ""}, "not healthy"),
        ({}, "a task failed, see above"),
    ],
)
def test_the_reason_of_a_failure_is_what_the_program_said(result: dict[str, str], reason: str) -> None:
    """Ansible's own word for a command that failed tells nobody anything."""
    assert FILTERS["edge_agent_reason"](result).endswith(reason)
