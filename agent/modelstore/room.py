"""Room on the disk, looked for before something large is written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from agent.errors import CannotCreate

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 32 << 20
"""What must stay free for all others, events above all."""


def check_room(folder: Path, wanted_bytes: int) -> None:
    """Raise CannotCreate unless `wanted_bytes` can be written into `folder`."""
    free_bytes = shutil.disk_usage(folder).free
    if wanted_bytes + RESERVE_BYTES > free_bytes:
        mb = (wanted_bytes + RESERVE_BYTES) / 1e6
        fix = f"{mb:.0f} MB are needed: make room, or put state_dir on a larger disk"
        raise CannotCreate(
            f"no room for a model in {folder}", seen=f"{free_bytes / 1e6:.0f} MB free", fix=fix
        )
