"""ansible-lint's and Ansible's own word on the playbooks and the role."""

from __future__ import annotations

import subprocess

import pytest

from tests.fleet.ansible import FOLDER, environment

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_the_linter_finds_nothing() -> None:
    """By the profile that ansible/.ansible-lint names."""
    done = subprocess.run(
        ["ansible-lint", "--offline", "--nocolor"],
        cwd=FOLDER, env=environment(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (FOLDER / "playbooks").glob("*.yml")))
def test_its_syntax_is_good(playbook: str) -> None:
    """Ansible can read it, without any device."""
    command = ["ansible-playbook", "--syntax-check", "-i", "localhost,", f"playbooks/{playbook}.yml"]
    done = subprocess.run(
        command, cwd=FOLDER, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
