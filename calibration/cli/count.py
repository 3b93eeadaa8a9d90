"""--count, which a set that is made already has no use for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from agent.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def check_count(*folders: Path) -> None:
    """Raise UsageError where --count was given and all of `folders` are sets: their pictures are chosen already."""
    from calibration.clips.pictureset import SET_FILE

    given = click.get_current_context().get_parameter_source("count") is not ParameterSource.DEFAULT
    if given and all((folder / SET_FILE).is_file() for folder in folders):
        fix = "leave it out: all pictures of a set are taken, `edge-calibrate clips --count` makes another"
        raise UsageError("--count with a ready set", seen=folders[0], fix=fix)
